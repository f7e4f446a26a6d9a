package flock

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// selfTests remembers which file systems were seen to refuse a second lock.
type selfTests struct {
	// mu guards passed; it is not held while a test runs, so two may run at once, which harms nothing.
	mu     sync.Mutex
	passed map[selfTest]bool
}

type selfTest struct {
	dev    uint64 // st_dev
	fstype string // a number of an unmounted file system may come again as another's
	engine Engines
}

const maxSelfTests = 4096 // each btrfs subvolume is a device, and users may make some; beyond it tests are made anew

func newSelfTests() *selfTests { return &selfTests{passed: make(map[selfTest]bool)} }

// provesItself tests, the first time for each file system and engine, that the lock just taken excludes somebody: a
// second, independent description of the same file is refused the opposite mode. (Opposite, so that one test says that
// readers and writers exclude each other; a file system that forwards all locks under one owner fails it as well.)
// Where the test cannot be made the claim fails: nobody is told that he holds what nobody looked at.
//
// What it cannot see: users of another layer of an overlay or of the source of a FUSE mount; the server's own
// processes; other clients of an NFS mount with local_lock; a file server that asks for no kernel lock at all.
//
// Privileged: the second descriptor is of the same inode as the first, which was judged; an attacker may have chmodded it.
func (f *File) provesItself(e Engines, m Mode) error {
	test := selfTest{f.ID.Dev, f.mount.fstype, e}
	f.tested.mu.Lock()
	passed := f.tested.passed[test]
	f.tested.mu.Unlock()
	if passed {
		return nil
	}
	opposite, flags := Exclusive, unix.O_RDONLY
	if m == Exclusive {
		opposite = Shared
	} else if e == OFD {
		if f.readOnly {
			return nil // the write lock that should be refused cannot even be asked for
		}
		flags = unix.O_RDWR
	}
	second, err := openInode(f.fd, flags)
	if err == unix.EAGAIN {
		return err // a lease
	} else if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	err = tryEngine(second, e, opposite)
	unix.Close(second) // frees what it should not have got; the first description keeps its own
	switch err {
	case unix.EAGAIN:
	case nil:
		return fmt.Errorf("%w: %s lets a second %s lock pass", ErrMeaningless, f.mount.fstype, e)
	default:
		return fmt.Errorf("self-test: %w", err)
	}
	f.tested.mu.Lock()
	defer f.tested.mu.Unlock()
	if len(f.tested.passed) >= maxSelfTests {
		clear(f.tested.passed)
	}
	f.tested.passed[test] = true
	return nil
}
