package flock

import (
	"strings"

	"golang.org/x/sys/unix"
)

const (
	bundleSuffix = ".sparsebundle"
	tokenName    = "token"
	bandsName    = "bands"
)

// IsToken says that path names a bundle's token itself. It is the file that the bundle's own path leads to, so it
// is treated the same: exclusively, whatever its execute bits (Samba may store a DOS attribute in one).
func IsToken(path string) bool {
	return strings.HasSuffix(path, bundleSuffix+"/"+tokenName)
}

// bundleToken opens O_PATH the token of the sparsebundle that the directory fd is, or returns -1 if it is none:
// one has the name, or holds Info.plist, bands/ and token.
//
// Privileged: everything in the directory is an attacker's: it can be made to look like a bundle, which gains him a
// lock on a file of one link that he put there.
func bundleToken(fd int, path string) (int, error) {
	named := strings.HasSuffix(path, bundleSuffix)
	token, err := openat2(fd, tokenName, beneath)
	if err != nil {
		if !named {
			return -1, nil
		}
		if err = meaning(err); err == ErrNotFound {
			err = ErrNoToken
		}
		return -1, err
	}
	if named || holds(fd, "Info.plist", unix.S_IFREG) && holds(fd, bandsName, unix.S_IFDIR) {
		return token, nil
	}
	unix.Close(token)
	return -1, nil
}

// holds says that the directory has an entry of that name and kind. A link to one does not count.
//
// Privileged: as bundleToken.
func holds(dir int, name string, kind uint32) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == kind
}
