package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// selfTest is what two opens of a scratch file say about the locks in a directory.
type selfTest struct {
	dir  string
	done bool
	why  string // it was not done, safe to show

	ofd, flock probe
	netatalk   probe  // the byte locks of afpd against our ofd
	lease      probe  // F_SETLEASE, by which lockerd sees that somebody has a file open
	separate   bool   // ofd and flock do not see each other
	left       string // the scratch file, if it could not be removed
}

// probe is how a lock did.
type probe struct {
	outcome outcome
	err     error // of outcomeFails
}

type outcome uint8

const (
	outcomeExcludes outcome = iota + 1 // a second open was refused
	outcomeTwice                       // a second open got it as well
	outcomeFails                       // not even the first
)

func (o outcome) String() string {
	switch o {
	case outcomeExcludes:
		return "excludes"
	case outcomeTwice:
		return "granted-twice"
	case outcomeFails:
		return "fails"
	}
	return "untested"
}

// trySelf makes a scratch file in dir, opens it twice and has the two fight for it. dir may be an attacker's: nothing in it is
// opened but the file just made, and only its name is removed. want is the directory that was looked at, scratch is tmpfile.
func trySelf(dir string, want unix.Stat_t, scratch func(dir int) (fd int, name string, err error)) (t selfTest) {
	t.dir = dir
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return t.not(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return t.not(err)
	}
	if st.Dev != want.Dev || st.Ino != want.Ino {
		return t.not(errors.New("the directory was exchanged meanwhile"))
	}
	a, name, err := scratch(fd)
	if err != nil {
		return t.not(err)
	}
	defer unix.Close(a)
	if name != "" {
		defer func() { // it may have been kept by then: CIFS does not remove what is open
			if err := unix.Unlinkat(fd, name, 0); err != nil && err != unix.ENOENT {
				t.left = dir + "/" + name
			}
		}()
	}
	// A new open file description, by a name that cannot lead elsewhere. proc_pid_fd(5)
	b, err := unix.Open("/proc/self/fd/"+strconv.Itoa(a), unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return t.not(fmt.Errorf("open it again: %w", err))
	}
	if name != "" {
		unix.Unlinkat(fd, name, 0) // before anything can wait, so that nothing is left behind when we are killed
	}
	t.done = true
	t.fight(a, b)
	unix.Close(b)
	t.lease = tryLease(a)
	return t
}

// not says that the test could not be made.
func (t selfTest) not(err error) selfTest {
	t.why = sayUntested(err)
	return t
}

// tmpfile makes a file without a name or, where that is unknown, one with a name that nobody can guess.
func tmpfile(dir int) (fd int, name string, err error) {
	// O_TMPFILE leaves the directory and its times alone. open(2)
	fd, err = unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	switch err {
	case nil:
		return fd, "", nil
	case unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOSPC, unix.EDQUOT:
		return -1, "", err
	}
	return named(dir)
}

func named(dir int) (fd int, name string, err error) {
	name = ".locker-doctor-" + rand.Text()
	fd, err = unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	return fd, name, err
}

// fight tries each kind of lock on a against b. Nothing is locked afterwards.
func (t *selfTest) fight(a, b int) {
	t.flock = contest(func() error { return tryFlock(a) }, func() error { return tryFlock(b) })
	if t.flock.outcome == outcomeExcludes {
		t.separate = tryOFD(b) == nil
	}
	freeAll(a, b)
	t.ofd = contest(func() error { return tryOFD(a) }, func() error { return tryOFD(b) })
	freeAll(a, b)
	t.netatalk = contest(func() error { return tryOFD(a) }, func() error { return tryNetatalk(b) })
	freeAll(a, b)
}

func contest(first, second func() error) probe {
	if err := first(); err != nil {
		return probe{outcomeFails, err}
	}
	switch err := second(); err {
	case nil:
		return probe{outcome: outcomeTwice}
	case unix.EAGAIN, unix.EACCES: // fcntl(2) allows either
		return probe{outcome: outcomeExcludes}
	default:
		return probe{outcomeFails, err}
	}
}

func tryFlock(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }

func tryOFD(fd int) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) // length 0: to the end. fcntl(2)
}

// afpd's classic read locks: on ten bytes from B on, which stand for its ways to open and to deny (FACTS.md).
const (
	netatalkFirst = 1<<63 - 1 - 9
	netatalkBytes = 10
)

func tryNetatalk(fd int) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: netatalkFirst, Len: netatalkBytes})
}

func freeAll(fds ...int) {
	for _, fd := range fds {
		unix.Flock(fd, unix.LOCK_UN)
		unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
		unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
	}
}

// tryLease takes a write lease, which the kernel gives only to the one who has the file open, and gives it back. Should
// somebody open the file in that moment, SIGIO comes, which the Go runtime ignores. fcntl(2)
func tryLease(fd int) probe {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return probe{outcomeFails, err}
	}
	unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return probe{outcome: outcomeExcludes}
}
