package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"locker/flock"
)

// makeStateDir makes the state directory, if it is not there, and those that it lies in, so that the group which reads the log gets
// through to it.
//
// Privileged: creates directories that the administrator named; they are ours alone to write.
func makeStateDir(dir string) error {
	// The umask, and not chmod(2) afterwards, which could meet what another has put there meanwhile. It is everybody's in this
	// process, and nobody makes a file yet when this is called.
	defer unix.Umask(unix.Umask(0o022))
	return os.MkdirAll(dir, 0o755)
}

// logHeld reports whether a process has the log in auditDir open.
func logHeld(auditDir string) bool {
	fd := logLock(auditDir)
	if fd >= 0 {
		unix.Close(fd)
	}
	return fd >= 0
}

// logHolder gives the pid of that process; 0 if there is none, -1 if it is not known.
func logHolder(auditDir string) int {
	fd := logLock(auditDir)
	if fd < 0 {
		return 0
	}
	defer unix.Close(fd)
	// Who began on a read-only disk could not write who he is, so the kernel is asked first.
	if pid := lockedBy(fd); pid > 0 {
		return pid
	}
	return pidIn(fd)
}

// logLock opens the log's lock file if it is locked, else gives -1.
func logLock(auditDir string) int {
	fd, err := openLock(filepath.Join(auditDir, "lock"), 0)
	if err != nil {
		return -1 // not there, or for audit.Open to complain about
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != unix.EWOULDBLOCK {
		unix.Close(fd) // lets go of what we may have got
		return -1
	}
	return fd
}

// lockedBy gives the pid that has the file locked by flock(2), as far as the kernel tells us; else -1.
func lockedBy(fd int) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return -1
	}
	holders, err := flock.Outside(flock.ID{Dev: st.Dev, Ino: st.Ino}, os.Getpid())
	if err == nil && len(holders) == 1 && holders[0].Engine == "flock" {
		return int(holders[0].PID)
	}
	return -1
}

// openLock opens a lock file. On a read-only disk one that is there can be locked all the same, if that is not a network's. flock(2).
//
// Privileged: opens one fixed name; O_NOFOLLOW, so that a link planted there leads nowhere.
func openLock(path string, create int) (int, error) {
	const flags = unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK
	fd, err := unix.Open(path, unix.O_RDWR|create|flags, 0o600)
	if err == unix.EROFS {
		if readable, rerr := unix.Open(path, unix.O_RDONLY|flags, 0); rerr == nil {
			return readable, nil
		}
	}
	return fd, err
}

// takeLock takes the lock file whose lock says that we alone use what stands beside it, and writes our pid there, for
// whoever comes second. The lock ends with the process, however that ends. before is the pid that stood there.
//
// Privileged: creates a file that only we can open. In a directory like /tmp another may have put something there before: it is
// opened without following a link, and refused if it is not ours or has a second name, since our pid will be written over it.
func takeLock(path string) (fd, before int, err error) {
	fd, err = openLock(path, unix.O_CREAT)
	if err != nil {
		return -1, 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Nlink != 1 {
		unix.Close(fd)
		return -1, 0, errors.Join(err, fmt.Errorf("%q is there and is not a file that lockerd has made as uid %d", path, os.Geteuid()))
	}
	before = pidIn(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = heldBy(before)
		}
		return -1, before, err
	}
	return fd, before, nil
}

// sign writes our pid into a lock file that we hold. Best effort: a full disk must not keep anybody from starting.
//
// Privileged: writes to a file that only we can open.
func sign(fd int) {
	_ = unix.Ftruncate(fd, 0)
	_, _ = unix.Pwrite(fd, strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
}

// pidIn reads the pid that the holder of a lock file has written there; -1 if none stands there.
func pidIn(fd int) int {
	buf := make([]byte, 32)
	n, _ := unix.Pread(fd, buf, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:max(n, 0)]))); err == nil && pid > 0 {
		return pid
	}
	return -1
}

// heldBy refuses a lock file that another process holds: its pid, -1 if it did not say.
type heldBy int

func (h heldBy) Error() string {
	if h < 0 {
		return "in use by another lockerd"
	}
	return "in use by lockerd pid " + strconv.Itoa(int(h))
}
