package flock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// NoQuiet says that it cannot be found out when a bundle was last written, and why.
type NoQuiet struct{ Why string }

func (e *NoQuiet) Error() string { return "when it was last written cannot be found out: " + e.Why }

const (
	maxWritten     = 1 << 20 // files looked at in one bundle
	namesAtOnce    = 256     // read of a directory, and looked at, before the context is asked
	statxAsks      = unix.STATX_CTIME | unix.STATX_MNT_ID
	statxDoesNotGo = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
)

// Written gives the time at which f's bundle was last written: the newest status change (st_ctime) of its directory, of what lies in that, and
// of what lies in bands/. A write sets it, and so does whatever else changes a file, a rename or a new name; the modification time
// is never newer, unless somebody has set it by hand, to anything he likes. So a time in the future is the clock's doing alone.
//
// It is *NoQuiet where that cannot be found out, ErrReopen if f.Target no longer leads to f, and ctx.Err() soon after ctx has ended. It
// takes about a second for a quarter of a million files.
//
// Privileged: all names, files and mounts in the bundle are an attacker's, and change meanwhile. Its directory and those two are opened, by openat2, and
// read; of all else only the times are asked for, which nothing can hold up (AT_STATX_DONT_SYNC: not even a FUSE mount). statx(2)
func (o *Opener) Written(ctx context.Context, f *File) (time.Time, error) {
	newest, err := o.written(ctx, f)
	var unknown *NoQuiet
	switch {
	case err == nil, err == ErrReopen, err == ctx.Err(), errors.As(err, &unknown):
		return newest, err
	}
	return newest, pathError("look through", f.Target, err)
}

// Privileged: as Written.
func (o *Opener) written(ctx context.Context, f *File) (newest time.Time, err error) {
	switch {
	case !f.Bundle:
		return newest, unix.EINVAL
	case f.Network: // a server's clock, and calls that may hang
		return newest, &NoQuiet{"it is on a network file system"}
	}
	dir, err := o.dirOf(f)
	switch {
	case err == ErrMoved:
		return newest, ErrReopen
	case err == errBare:
		return newest, &NoQuiet{errBare.Error()}
	case err != nil:
		return newest, err
	}
	defer unix.Close(dir)
	l := &lookThrough{ctx: ctx, left: maxWritten}
	own, _, err := l.at(dir, "")
	if err != nil {
		return newest, err
	}
	l.mount = own.Mnt_id
	if err := l.through(dir); err != nil {
		return newest, err
	}
	for _, name := range bundleDirs {
		if err := l.below(dir, name); err != nil {
			return newest, err
		}
	}
	return l.newest, nil
}

// lookThrough is one look through a bundle.
type lookThrough struct {
	ctx    context.Context
	mount  uint64 // that the bundle is on
	left   int    // how many files may still be looked at
	newest time.Time
}

// below looks at all that lies in the bundle's directory of that name, which need not be there.
//
// Privileged: as through; the directory is opened O_PATH, beneath the bundle and on its mount.
func (l *lookThrough) below(bundle int, name string) error {
	dir, err := openat2(bundle, name, beneath)
	switch meaning(err) {
	case nil:
	case ErrNotFound: // a bundle by its name alone has no bands, and seldom one has mapped
		return nil
	case ErrSymlink, ErrMount:
		return &NoQuiet{"its " + name + " directory is elsewhere"}
	default:
		return err
	}
	defer unix.Close(dir)
	return l.through(dir)
}

// through looks at all that lies in dir, and then at dir itself, whose time says what came and went meanwhile.
//
// Privileged: dir is O_PATH, and may by now be no directory; reading it may change its time of last access, as reading always does.
func (l *lookThrough) through(dir int) error {
	fd, err := openInode(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	list := os.NewFile(uintptr(fd), bandsName)
	defer list.Close()
	for {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		names, err := list.Readdirnames(namesAtOnce)
		for _, name := range names {
			if l.left--; l.left < 0 {
				return &NoQuiet{fmt.Sprintf("it has more than %d files", maxWritten)}
			}
			if err := l.note(fd, name); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return l.note(fd, "")
		case err != nil:
			return err
		}
	}
}

// note takes the time of one file into account, unless it is gone by now, which its directory tells.
func (l *lookThrough) note(dir int, name string) error {
	st, there, err := l.at(dir, name)
	switch {
	case err != nil:
		return err
	case !there:
		return nil
	case st.Mnt_id != l.mount:
		return &NoQuiet{"another file system is mounted in it"}
	}
	if at := time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)); at.After(l.newest) {
		l.newest = at
	}
	return nil
}

// at asks for the times of name in dir, or of dir itself.
//
// Privileged: name is an attacker's, and so is the file, which is neither opened nor followed nor asked for at a server.
func (l *lookThrough) at(dir int, name string) (st unix.Statx_t, there bool, err error) {
	flags := statxDoesNotGo
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	switch err := unix.Statx(dir, name, flags, statxAsks, &st); err {
	case nil:
		return st, true, nil
	case unix.ENOENT:
		return st, false, nil
	default:
		return st, false, err
	}
}
