package flock

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// TryLock claims the file from the kernel, with all of f.Engines or none: nil, ErrBusy, or another error. It never
// waits (on a network file system the call itself may: Network). After any error nothing is held. A descriptor that
// holds a lock is never converted, since flock(2) loses the lock when a conversion fails: ErrHeld. Where AsksIdle, and somebody
// else has the file open: ErrInUse, which is ErrBusy. ErrReopen: Park was called, and the file is to be opened anew.
//
// Privileged: an attacker decides when it is busy; a claim undone is visible to others for some microseconds.
func (f *File) TryLock(m Mode) error {
	if f.held != 0 {
		return ErrHeld
	}
	if m != Exclusive && m != Shared || f.fd < 0 || f.mount == nil || f.Engines == 0 {
		return f.lockError(unix.EINVAL)
	}
	if f.Bundle && m == Shared {
		return f.lockError(ErrSharedBundle)
	}
	if f.wish != 0 && m == Shared {
		return f.lockError(unix.EINVAL)
	}
	if f.parked {
		if err := f.unpark(); err != nil {
			return f.undo(err)
		}
	}
	for _, e := range [...]Engines{OFD, BSD} {
		if f.Engines&e == 0 {
			continue
		}
		err := tryEngine(f.fd, e, m)
		if err == nil {
			f.held |= e
			err = f.provesItself(e, m)
		}
		if err != nil {
			return f.undo(err)
		}
	}
	if f.wish != 0 { // last: whoever opens it from here on finds the engines' locks
		if err := f.probe(); err != nil {
			return f.undo(err)
		}
	}
	return nil
}

func (f *File) undo(err error) error {
	switch err {
	case unix.EAGAIN:
		err = ErrBusy
	case ErrInUse: // an ordinary answer, too
	default:
		err = f.lockError(err)
	}
	if undo := f.Unlock(); undo != nil {
		return errors.Join(err, undo)
	}
	return err
}

func (f *File) lockError(err error) error { return pathError("lock", f.Target, err) }

// tryEngine is one claim on one description: nil, EAGAIN if it is busy, or another errno.
//
// Privileged: fd is an attacker's file.
func tryEngine(fd int, e Engines, m Mode) error {
	for {
		var err error
		if e == OFD {
			// F_OFD_SETLK, not F_SETLK: a POSIX lock dies when *any* descriptor of the file is closed, and with the
			// process. From 0 to the end, so that it covers the bytes near 2^63 that netatalk and Samba use. fcntl(2)
			lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: unix.SEEK_SET}
			if m == Shared {
				lock.Type = unix.F_RDLCK
			}
			err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
		} else {
			how := unix.LOCK_EX
			if m == Shared {
				how = unix.LOCK_SH
			}
			err = unix.Flock(fd, how|unix.LOCK_NB) // flock(2)
		}
		switch err {
		case unix.EINTR: // only where the call went to another machine
		case unix.EACCES: // POSIX lets fcntl say either
			return unix.EAGAIN
		default:
			return err
		}
	}
}

// Unlock gives back what TryLock took, for every copy of the descriptor. It may be called at any time, more than once.
// If it fails (network file systems) only closing all copies frees the file.
//
// Privileged: none of its input is anybody's.
func (f *File) Unlock() error {
	var errs []error
	if f.held&BSD != 0 {
		if err := unix.Flock(f.fd, unix.LOCK_UN); err != nil {
			errs = append(errs, fmt.Errorf("flock: %w", err))
		}
	}
	if f.held&OFD != 0 {
		lock := unix.Flock_t{Type: unix.F_UNLCK, Whence: unix.SEEK_SET}
		if err := unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &lock); err != nil {
			errs = append(errs, fmt.Errorf("ofd: %w", err))
		}
	}
	f.held, f.Idle = 0, false
	if errs != nil {
		return pathError("unlock", f.Target, errors.Join(errs...))
	}
	return nil
}

// Close closes the descriptor, once. It does not unlock: with a copy elsewhere (a keeper, a child between fork and exec)
// the lock lives on. To end a hold, Unlock and then Close.
//
// Privileged: none of its input is anybody's.
func (f *File) Close() error {
	if f.fd < 0 || f.mount == nil { // closed before, or never opened: 0 is not ours
		return nil
	}
	fd := f.fd
	f.fd, f.held, f.parked = -1, 0, false
	if err := unix.Close(fd); err != nil {
		return pathError("close", f.Target, err)
	}
	return nil
}
