package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// makeStateDir makes the state directory, if it is not there, so that the group which reads the log gets through to it.
//
// Privileged: creates a directory that the administrator named; it is ours alone to write.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, os.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(dir, 0o755) // whatever the umask
}

// logHolder gives the pid of the process that has the log in auditDir open; 0 if none has, -1 if it does not say who it is.
//
// Privileged: opens one fixed name in a directory that only we can write, and makes nothing.
func logHolder(auditDir string) int {
	fd, err := unix.Open(filepath.Join(auditDir, "lock"), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0 // not there, or for audit.Open to complain about
	}
	defer unix.Close(fd) // lets go of what we may have got
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != unix.EWOULDBLOCK {
		return 0
	}
	return pidIn(fd)
}

// takeLock takes the lock file whose lock says that we alone use what stands beside it, and writes our pid there, for
// whoever comes second. The lock ends with the process, however that ends. before is the pid that stood there.
//
// Privileged: creates a file that only we can open. In a directory like /tmp another may have put something there before: it is
// opened without following a link, and refused if it is not ours or has a second name, since our pid will be written over it.
func takeLock(path string) (fd, before int, err error) {
	fd, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
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
