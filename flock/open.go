package flock

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const maxAttempts = 8 // renames going on beside us can be kept up for ever; then the path is "in use"

// errAgain asks attempt to be made once more.
var errAgain = errors.New("the path changed while it was opened")

// Open opens what path leads to for a lock as w wants it. Errors are *PathError around the sentinels of this
// package or an errno, or *OpenBusy. Nothing is created, written, truncated or read, so no time of the file changes.
//
// Privileged: an attacker controls path below the whitelist and may own, rename and replace everything there meanwhile.
func (o *Opener) Open(path string, w Want) (*File, error) {
	if err := checkPath(path); err != nil {
		return nil, pathError("open", path, err)
	}
	if w.Mode != Exclusive && w.Mode != Shared || w.Engines&^(OFD|BSD) != 0 {
		return nil, pathError("open", path, unix.EINVAL)
	}
	for range maxAttempts {
		f, err := o.attempt(path, w)
		if err == nil {
			return f, nil
		}
		var busy *OpenBusy
		switch {
		case errors.As(err, &busy):
			return nil, busy
		case err != errAgain && err != unix.EAGAIN:
			return nil, pathError("open", path, err)
		}
	}
	return nil, &OpenBusy{Path: path}
}

// sight is what a walk came to.
type sight struct {
	fd    int // O_PATH
	st    unix.Stat_t
	began time.Time // before the walk
}

// attempt is one try: walk O_PATH, look at what it is, reopen exactly that, look again.
//
// Privileged: as Open.
func (o *Opener) attempt(path string, w Want) (*File, error) {
	s := sight{began: time.Now()}
	fd, m, err := o.walk(path)
	if err != nil {
		return nil, err
	}
	s.fd = fd
	defer func() { unix.Close(s.fd) }()
	if err := unix.Fstat(s.fd, &s.st); err != nil {
		return nil, err
	}
	f := &File{Path: path, Target: path, Network: m.network, mount: m, tested: o.tested, probes: o.probes}
	token := IsToken(path)
	if s.st.Mode&unix.S_IFMT == unix.S_IFDIR {
		inside, err := bundleToken(s.fd, path)
		if err != nil {
			return nil, err
		}
		if inside < 0 {
			if err := f.wishIdle(w, false); err != nil {
				return nil, err
			}
			return f, o.reopen(f, &s, w, unix.O_RDONLY|unix.O_DIRECTORY, BSD)
		}
		unix.Close(s.fd)
		s.fd, token, f.Target = inside, true, path+"/"+tokenName
		if err := unix.Fstat(s.fd, &s.st); err != nil {
			return nil, err
		}
		if s.st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil, fmt.Errorf("%w: a token that is a directory", ErrKind)
		}
	}
	if token {
		if w.Mode == Shared {
			return nil, ErrSharedBundle
		}
		f.Bundle, w.Hardlinks = true, false
	}
	if err := lockable(&s.st, w.Hardlinks); err != nil {
		return nil, err
	}
	if err := f.wishIdle(w, true); err != nil {
		return nil, err
	}
	executable := s.st.Mode&0o111 != 0 && !token
	switch {
	case m.network:
		// On NFS flock(2) is a byte-range lock in disguise and collides with ours. An execute bit does not matter:
		// SMB mounts show one on every file, and ETXTBSY is local.
		err = o.reopen(f, &s, w, unix.O_RDWR, OFD)
	case executable:
		err = o.reopen(f, &s, w, unix.O_RDONLY, BSD) // a writable descriptor makes execve(2) fail with ETXTBSY
	default:
		// In both modes: a shared OFD lock would be content with a read-only descriptor, but one rule is easier to
		// explain, and a shared hold then shows the same engines as an exclusive one.
		err = o.reopen(f, &s, w, unix.O_RDWR, OFD|BSD)
	}
	return f, err
}

// reopen opens the very inode that was seen, for locking, with the engines that this kind of file takes.
//
// Privileged: the inode is an attacker's, of a kind that lockable lets through; its name no longer matters.
func (o *Opener) reopen(f *File, s *sight, w Want, flags int, engines Engines) (err error) {
	if w.Engines != 0 {
		engines &= w.Engines
	}
	if engines&OFD == 0 && flags&unix.O_RDWR != 0 {
		flags = unix.O_RDONLY
	}
	if f.Network && flags&unix.O_DIRECTORY != 0 {
		engines = 0 // flock on a directory stays on this machine there
	}
	if engines == 0 {
		return ErrEngines
	}
	f.ID = ID{s.st.Dev, s.st.Ino}
	open := func() (int, error) { return openInode(s.fd, flags) }
	f.fd, err = o.probes.past(f.ID, open)
	switch err {
	case unix.EACCES, unix.EROFS, unix.ETXTBSY, unix.EPERM: // EPERM: chattr +i, +a
		if flags&unix.O_RDWR == 0 {
			return err
		}
		cause := err
		if !f.Network {
			engines &= BSD
		} else if w.Mode == Exclusive {
			engines = 0 // F_WRLCK needs a descriptor open for writing. fcntl(2), EBADF
		}
		if engines == 0 {
			return fmt.Errorf("%w: %w", ErrEngines, cause)
		}
		flags = unix.O_RDONLY
		f.fd, err = o.probes.past(f.ID, open)
	}
	switch err {
	case nil:
	case unix.EAGAIN: // a lease, and O_NONBLOCK; without it we would sleep up to lease-break-time, 45 s. open(2)
		return &OpenBusy{Path: f.Path, ID: f.ID}
	default:
		return err
	}
	f.Engines, f.flags, f.readOnly = engines, flags, flags&unix.O_RDWR == 0
	if err := o.confirm(f, s, w.Hardlinks); err != nil {
		unix.Close(f.fd)
		return err
	}
	return nil
}

// confirm looks at the descriptor that will be locked: it is the inode that was judged, it still has a name, and still
// one. On overlayfs opening for writing may have copied the file up into another inode: then everything starts again.
//
// Privileged: an attacker may link, unlink and chmod the inode between the two looks.
func (o *Opener) confirm(f *File, s *sight, hardlinks bool) error {
	before := &s.st
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	switch {
	case st.Dev != before.Dev || st.Ino != before.Ino || st.Mode&unix.S_IFMT != before.Mode&unix.S_IFMT:
		return errAgain
	case st.Nlink == 0:
		return errAgain // deleted or replaced meanwhile: what does the path lead to now?
	}
	if err := lockable(&st, hardlinks); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && !hardlinks {
		linked, err := o.stillLinked(f, &st, s.began)
		switch {
		case isShortage(err):
			return err
		case err != nil || !linked:
			return errAgain
		}
	}
	return nil
}

// isShortage says that lockerd or the system has run out of something: the file has nothing to do with it.
func isShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// openInode opens through the magic link of fd, which leads to its inode whatever became of its name.
//
// Privileged: fd is O_PATH and judged. O_NONBLOCK: leases. O_NOCTTY: no line of defence left out. proc_pid_fd(5), open(2).
func openInode(fd int, flags int) (int, error) {
	dir, err := procSelfFD()
	if err != nil {
		return -1, err
	}
	const always = unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	for {
		opened, err := unix.Openat(dir, strconv.Itoa(fd), flags|always, 0)
		if err != unix.EINTR {
			return opened, err
		}
	}
}

// procSelfFD is /proc/self/fd, opened once for the life of the process: a tenth of an Open is finding it anew.
//
// Privileged: no path of anybody's is in it.
var procSelfFD = sync.OnceValues(func() (int, error) {
	fd, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /proc/self/fd: %w", err)
	}
	return fd, nil
})
