package authz

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Load reads a policy file that nobody but root can have written. Without root's
// rights, lockerd's own user is trusted as well.
func Load(file string, u Users) (*Policy, error) {
	text, err := readTrusted(file, "/", uint32(os.Geteuid()))
	if err != nil {
		return nil, err
	}
	p, err := Parse(file, text, u)
	if err != nil {
		return nil, err
	}
	if err := p.findPrograms(); err != nil {
		return nil, fmt.Errorf("policy %s: %w", file, err)
	}
	return p, nil
}

// findPrograms gives the programs of [guard] the names by which the kernel knows them, which have no symbolic links. A program that
// is not there, or that we may not see, keeps the name it has: it may come later, and counts with the next load.
//
// Privileged: looks at paths that the administrator named. Who can write in a directory on the way chooses which program is denied; he could
// put another program there as well.
func (p *Policy) findPrograms() error {
	named := p.Guard
	p.Guard = nil
	for _, name := range named {
		real, err := filepath.EvalSymlinks(name)
		if err == nil {
			var info os.FileInfo
			if info, err = os.Stat(real); err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
				err = errors.New("it is no program")
			}
		}
		if err != nil {
			real = name
			var at *os.PathError
			if errors.As(err, &at) {
				err = at.Err
			}
			p.doubts = append(p.doubts, fmt.Sprintf("[guard]: %q: %v; it is denied by this name, and looked for again at the next reload", name, err))
		}
		if !slices.Contains(p.Guard, real) {
			p.Guard = append(p.Guard, real)
		}
	}
	if err := checkPrograms(p.Guard); err != nil {
		return fmt.Errorf("[guard]: with symbolic links resolved: %w", err)
	}
	return nil
}

// readTrusted reads the file after checking owner and mode of the opened file and
// of each directory between top and it, top included.
//
// Privileged: file comes from root's command line. Who can write to one of the
// directories could put another file there; they are opened one by one from the
// top, never by a name that could lead elsewhere a moment later, and a symbolic
// link is refused wherever it stands. O_NONBLOCK: a FIFO must not hang the start.
func readTrusted(file, top string, euid uint32) ([]byte, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", file, err)
	}
	below, err := filepath.Rel(top, path)
	if err != nil || below == "." || strings.HasPrefix(below, "..") {
		return nil, fmt.Errorf("policy %s: no file below %s", file, top)
	}
	// O_PATH: no permission on the directory itself is needed. open(2).
	const dirFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	dir, err := unix.Open(top, dirFlags, 0)
	if err != nil {
		return nil, fmt.Errorf("policy %s: open %s: %w", file, top, err)
	}
	defer func() { unix.Close(dir) }()
	if err := trusted(dir, top, euid, unix.S_IFDIR); err != nil {
		return nil, fmt.Errorf("policy %s: %w", file, err)
	}
	names := strings.Split(below, "/")
	at := top
	for _, name := range names[:len(names)-1] {
		at = filepath.Join(at, name)
		next, err := unix.Openat(dir, name, dirFlags, 0)
		if err != nil {
			return nil, openError(file, at, dir, name, err)
		}
		unix.Close(dir)
		dir = next
		if err := trusted(dir, at, euid, unix.S_IFDIR); err != nil {
			return nil, fmt.Errorf("policy %s: %w", file, err)
		}
	}
	name := names[len(names)-1]
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(file, path, dir, name, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := trusted(fd, path, euid, unix.S_IFREG); err != nil {
		return nil, fmt.Errorf("policy %s: %w", file, err)
	}
	// One byte more than allowed: Parse refuses it, however large the file grew.
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", file, err)
	}
	return text, nil
}

// openError names a symbolic link as what it is. open(2) says ELOOP for a link,
// or ENOTDIR with O_DIRECTORY.
//
// Privileged: looks at a name in a directory that has been found trustworthy, and
// only for the words of an error.
func openError(file, at string, dir int, name string, err error) error {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return fmt.Errorf("policy %s: %s is a symbolic link: give the real path", file, at)
	}
	return fmt.Errorf("policy %s: open %s: %w", file, at, err)
}

// trusted checks kind, owner and mode of an opened file. A sticky directory that
// others can write to is refused, too: they could have made the file's directory.
// Write access by an ACL shows in the group bits, which hold its mask. acl(5).
func trusted(fd int, at string, euid uint32, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", at, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != kind && kind == unix.S_IFDIR:
		return fmt.Errorf("%s is no directory", at)
	case st.Mode&unix.S_IFMT != kind:
		return fmt.Errorf("%s is no regular file", at)
	case st.Uid != 0 && st.Uid != euid:
		return fmt.Errorf("%s belongs to uid %d: it must belong to %s", at, st.Uid, owners(euid))
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s has mode %04o: nobody but its owner may write there (chmod go-w)", at, st.Mode&0o7777)
	}
	return nil
}

func owners(euid uint32) string {
	if euid == 0 {
		return "root"
	}
	return fmt.Sprintf("root or uid %d", euid)
}
