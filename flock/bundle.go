package flock

import (
	"errors"
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

// errBare says that a bundle's token is an allow entry: its directory is on the way to the whitelist, not in it.
var errBare = errors.New("only its token is in allow")

// dirOf opens O_PATH the directory that the token f is in, by its name. ErrMoved: it is in none by that name any more; errBare.
//
// Privileged: as Open; the directory that is given held f a moment ago, whatever its owner does with it now.
func (o *Opener) dirOf(f *File) (int, error) {
	dir, err := o.walkParent(f.Target)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrSymlink), errors.Is(err, ErrMount), errors.Is(err, ErrOutside):
		return -1, ErrMoved
	case err != nil:
		return -1, err
	case dir < 0:
		return -1, errBare
	}
	st, err := glance(dir, tokenName)
	if err == unix.ENOENT || err == nil && f.ID != (ID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}) {
		err = ErrMoved
	}
	if err != nil {
		unix.Close(dir)
		return -1, err
	}
	return dir, nil
}

// holds says that the directory has an entry of that name and kind. A link to one does not count.
//
// Privileged: as bundleToken.
func holds(dir int, name string, kind uint32) bool {
	st, err := glance(dir, name)
	return err == nil && uint32(st.Mode)&unix.S_IFMT == kind
}

// glance asks what name in dir is, without having anybody asked: a user can have mounted a FUSE of his over a file of his, and its daemon
// need not answer. statx(2)
//
// Privileged: as bundleToken.
func glance(dir int, name string) (st unix.Statx_t, err error) {
	err = unix.Statx(dir, name, statxDoesNotGo, unix.STATX_TYPE|unix.STATX_INO, &st)
	return st, err
}
