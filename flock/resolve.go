package flock

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

const maxPath = 4095 // bytes: PATH_MAX without its NUL

// checkPath repeats what authz has checked: what reaches openat2 has no "..", whatever the caller forgot.
func checkPath(path string) error {
	if len(path) < 2 || len(path) > maxPath || path[0] != '/' || strings.IndexByte(path, 0) >= 0 {
		return ErrPath
	}
	for rest, more := path[1:], true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." {
			return ErrPath
		}
	}
	return nil
}

// openat2 is the only one in the tree. It opens O_PATH: nothing is really opened, so a FIFO blocks nobody, a device
// is not touched, a lease is not broken. Symbolic and magic links are refused at every position. openat2(2).
//
// Privileged: an attacker may control every byte of path and every directory below dir, and change them meanwhile.
func openat2(dir int, path string, resolve uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: resolve | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// beneath is how everything below a root is opened: never up, never across a mount.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV

// meaning turns the errno of a walk into what a caller branches on. EAGAIN stays: attempt deals with it.
func meaning(err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR, unix.ENAMETOOLONG:
		return ErrNotFound
	case unix.ELOOP:
		return ErrSymlink
	case unix.EXDEV:
		return ErrMount
	}
	return err
}

// rootOf finds the longest root of a clean path, and what remains below it.
func (o *Opener) rootOf(path string) (r *root, rest string) {
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
		if r := o.roots[path[:end]]; r != nil {
			return r, strings.TrimPrefix(path[end:], "/")
		}
	}
	return nil, ""
}

// walk opens O_PATH what path leads to, and says on which mount it is. path is clean and the caller closes fd.
//
// Privileged: an attacker controls path below the allow entry, and may own, rename and replace every directory there.
func (o *Opener) walk(path string) (fd int, m *mount, err error) {
	r, rest := o.rootOf(path)
	if r == nil {
		return -1, nil, ErrOutside
	}
	if fd, m, err = o.enter(r); err != nil {
		return -1, nil, err
	}
	if rest = r.below(rest); rest != "" {
		if fd, err = step(fd, rest, beneath); err != nil {
			return -1, nil, err
		}
	}
	return fd, m, nil
}

// walkParent opens O_PATH the directory that path is in; -1 if that is before the walk proper begins, where nobody but
// root can change anything.
//
// Privileged: as walk.
func (o *Opener) walkParent(path string) (fd int, err error) {
	r, rest := o.rootOf(path)
	if r == nil {
		return -1, ErrOutside
	}
	if rest = r.below(rest); rest == "" {
		return -1, nil
	}
	if fd, _, err = o.enter(r); err != nil {
		return -1, err
	}
	if slash := strings.LastIndexByte(rest, '/'); slash > 0 {
		return step(fd, rest[:slash], beneath)
	}
	return fd, nil
}

// enter opens O_PATH the last mount known on the way to r; what follows is below it.
//
// Privileged: as walk.
func (o *Opener) enter(r *root) (fd int, m *mount, err error) {
	if fd, err = openat2(unix.AT_FDCWD, r.first, 0); err != nil {
		return -1, nil, meaning(err)
	}
	if m, err = o.expect(fd, r.firstWant); err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	for i := range r.hops {
		h := &r.hops[i]
		if h.dir != "" {
			if fd, err = step(fd, h.dir, beneath); err != nil {
				return -1, nil, err
			}
		}
		if fd, err = step(fd, h.name, unix.RESOLVE_BENEATH); err != nil {
			return -1, nil, err
		}
		if m, err = o.expect(fd, h.want); err != nil {
			unix.Close(fd)
			return -1, nil, err
		}
	}
	return fd, m, nil
}

// below is the way from the end of enter to rest.
func (r *root) below(rest string) string {
	switch {
	case r.tail == "":
		return rest
	case rest == "":
		return r.tail
	}
	return r.tail + "/" + rest
}

// step goes on from dir, which it closes in any case.
//
// Privileged: as openat2.
func step(dir int, path string, resolve uint64) (int, error) {
	fd, err := openat2(dir, path, resolve)
	unix.Close(dir)
	return fd, meaning(err)
}

// expect says which mount fd is on, and refuses it if it is not the one wanted: somebody may have mounted his FUSE
// there, or root something that the policy has not seen.
//
// Privileged: fd may be on an attacker's mount.
func (o *Opener) expect(fd int, want mountID) (*mount, error) {
	var st unix.Statx_t
	m, err := o.mounts.of(fd, &st)
	switch {
	case err != nil:
		return nil, err
	case m.enter == never:
		return nil, fmt.Errorf("%w: %s", ErrMount, m.why)
	case want != mountID{} && m.id != want:
		return nil, fmt.Errorf("%w: the mounts have changed since the whitelist was taken", ErrMount)
	}
	return m, nil
}
