package flock

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrReopen says that a parked file cannot be opened again as it was: Open has to judge it anew.
var ErrReopen = errors.New("the file must be opened anew")

// Park exchanges the descriptor for an O_PATH one, so that a claim that waits is not itself an open of the file, which would keep
// somebody's probe from success. TryLock opens it again. Directories and files on network file systems are left as they are,
// and so is a file that cannot be parked.
//
// Privileged: the inode was judged, and O_PATH opens nothing; our own descriptor leads to it, whatever became of its name.
func (f *File) Park() {
	if f.parked || f.held != 0 || f.fd < 0 || f.mount == nil || f.Network || f.flags&unix.O_DIRECTORY != 0 {
		return
	}
	fd, err := openInode(f.fd, unix.O_PATH)
	if err != nil {
		return
	}
	unix.Close(f.fd)
	f.fd, f.parked = fd, true
}

// unpark opens the very inode again: EAGAIN if somebody has a lease on it, a shortage as it is, else ErrReopen.
//
// Privileged: as Park; the file is an attacker's, who may have changed its mode since it was judged. It is locked and looked at
// under its name before anybody is told that he holds it.
func (f *File) unpark() error {
	fd, err := f.probes.past(f.ID, func() (int, error) { return openInode(f.fd, f.flags) })
	switch {
	case err == nil:
	case err == unix.EAGAIN, isShortage(err):
		return err
	default:
		return ErrReopen // executed by now, or on a file system that was made read-only: other engines
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != f.ID.Dev || st.Ino != f.ID.Ino { // overlayfs has copied it up
		unix.Close(fd)
		return ErrReopen
	}
	unix.Close(f.fd)
	f.fd, f.parked = fd, false
	return nil
}
