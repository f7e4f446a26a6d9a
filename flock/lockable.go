package flock

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// lockable refuses what must not be opened for real: a FIFO blocks or wakes its writer, a device acts. With a second
// name a user can pull another's file below his own prefix, and while that name exists the count says so; stillLinked
// is about a name that was there for the walk and is gone when we count.
func lockable(st *unix.Stat_t, hardlinks bool) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nil // its links are its subdirectories
	case unix.S_IFREG:
	case unix.S_IFIFO:
		return fmt.Errorf("%w: a FIFO", ErrKind)
	case unix.S_IFSOCK:
		return fmt.Errorf("%w: a socket", ErrKind)
	case unix.S_IFCHR, unix.S_IFBLK:
		return fmt.Errorf("%w: a device", ErrKind)
	case unix.S_IFLNK:
		return ErrSymlink
	default:
		return ErrKind
	}
	if st.Nlink > 1 && !hardlinks {
		return fmt.Errorf("%w (%d)", ErrHardlinks, st.Nlink)
	}
	return nil
}

// stillLinked says that the name which the walk found was among the links that st counted, so that a count of one means
// no other name. Without it: link a stranger's file, have it opened, unlink it before the count; one open in thirty got
// through, whatever the count was meant to say.
//
// Unlinking sets st_ctime, which no user can set back, so a file whose ctime is older than our walk was not unlinked since.
// Otherwise the kernel is asked whether the directory entry that was opened is still there; once gone it never comes back,
// even if the name does. unlink(2) lowers the count before it takes the entry away, all with the directory locked, so we
// pass through that lock in between. What is left needs an unlink caught half-way *and* its directory exchanged for
// another and back meanwhile. A name that itself ends in deletedName has to wait until its ctime has aged.
//
// Privileged: an attacker links, unlinks and renames the inode and its directories, and chooses its names. proc_pid_fd(5)
func (o *Opener) stillLinked(f *File, st *unix.Stat_t, began time.Time) (bool, error) {
	changed := time.Unix(st.Ctim.Unix())
	if !f.Network && changed.Before(began.Add(-ctimeSlack)) { // a server has a clock of its own
		return true, nil
	}
	parent, err := o.walkParent(f.Target)
	if err != nil {
		return false, err
	}
	if parent >= 0 {
		// No file system has names this long, so the answer is never cached: each time the directory's lock is taken
		// (shared) to ask the file system, and nothing stays behind. fs/namei.c, lookup_slow
		fd, err := step(parent, nameNobodyHas, beneath)
		switch {
		case err == nil:
			unix.Close(fd)
		case isShortage(err): // before anything was looked up
			return false, err
		}
	}
	dir, err := procSelfFD()
	if err != nil {
		return false, err
	}
	name := make([]byte, maxPath+1+len(deletedName))
	n, err := unix.Readlinkat(dir, strconv.Itoa(f.fd), name)
	if err != nil {
		return false, err
	}
	return !bytes.HasSuffix(name[:n], []byte(deletedName)), nil
}

const (
	deletedName = " (deleted)"
	ctimeSlack  = time.Second // inode times come from a clock that ticks every 1 to 10 ms
)

const (
	x64           = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	nameNobodyHas = x64 + x64 + x64 + x64 + x64 // NAME_MAX is 255
)
