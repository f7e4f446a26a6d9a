package flock

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hungFUSE is a FUSE mount of a user whose daemon answers nothing, not even that it is there.
func hungFUSE(t *testing.T, at string, uid int) (answer func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		t.Skipf("no FUSE here: %v", err)
	}
	must(t, err)
	id := strconv.Itoa(uid)
	var st unix.Stat_t
	must(t, unix.Stat(at, &st))
	data := "fd=" + strconv.Itoa(fd) + ",rootmode=" + strconv.FormatUint(uint64(st.Mode&unix.S_IFMT), 8) + ",user_id=" + id + ",group_id=" + id + ",allow_other"
	must(t, unix.Mount("hung", at, "fuse.hung", unix.MS_NOSUID|unix.MS_NODEV, data))
	closed := false
	answer = func() { // the daemon dies: whoever waits for it gets ENOTCONN
		if !closed {
			closed = true
			unix.Close(fd)
		}
	}
	t.Cleanup(func() {
		answer()
		unix.Unmount(at, unix.MNT_DETACH)
	})
	return answer
}

// inTime fails the test instead of hanging it, by letting the daemon die.
func inTime(t *testing.T, answer, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		answer()
		<-done
		t.Error("hung until the FUSE daemon died")
	}
}

// The others can fail: this is what they are kept from.
func plainOpenHangs(t *testing.T, base string) {
	plant(t, base, "dir fuse")
	answer := hungFUSE(t, base+"/fuse", 65533)
	opened := make(chan error)
	go func() {
		_, err := unix.Open(base+"/fuse/file", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		opened <- err
	}()
	eventually(t, "a thread waits in FUSE", func() bool {
		threads, err := filepath.Glob("/proc/self/task/*/wchan")
		must(t, err)
		return slices.ContainsFunc(threads, func(name string) bool {
			at, _ := os.ReadFile(name)
			return bytes.Contains(at, []byte("request_wait")) || bytes.Contains(at, []byte("fuse"))
		})
	})
	answer()
	if err := <-opened; err == nil {
		t.Error("open in a dead FUSE mount succeeded")
	}
}

func fuseBelow(t *testing.T, base string) {
	plant(t, base, "dir allowed/alice/mnt", "dir allowed/later", "dir allowed/alice/mnt2", "file allowed/alice/file")
	must(t, os.Chown(base+"/allowed/alice", 65533, 65533))
	answer := hungFUSE(t, base+"/allowed/alice/mnt", 65533)
	inTime(t, answer, func() {
		o := warned(t, []string{base + "/allowed/alice/mnt"}, base+"/allowed")
		for _, name := range []string{"", "/", "/x", "/x/y"} {
			want := ErrMount
			if name == "/" {
				want = ErrPath
			}
			refused(t, o, base+"/allowed/alice/mnt"+name, want)
		}
		closedFirst(t, locks(t, o, base+"/allowed/alice/file", OFD|BSD))
		later := hungFUSE(t, base+"/allowed/later", 65533)
		inTime(t, later, func() { refused(t, o, base+"/allowed/later/x", ErrMount) })
		roots := hungFUSE(t, base+"/allowed/alice/mnt2", 0)
		inTime(t, roots, func() { // root's, and not named
			refused(t, o, base+"/allowed/alice/mnt2/x", ErrMount)
			refused(t, warned(t, []string{"mnt2"}, base+"/allowed"), base+"/allowed/alice/mnt2/x", ErrMount)
		})
		// Named in so many words, it is still somebody's who can hang root.
		o = warned(t, []string{"uid 65533"}, base+"/allowed/alice/mnt", base+"/allowed/alice/mnt/x")
		refused(t, o, base+"/allowed/alice/mnt", ErrMount)
		refused(t, o, base+"/allowed/alice/mnt/x", ErrMount)
	})
}

func fuseOver(t *testing.T, base string) {
	plant(t, base, "dir home/alice", "file home/alice/file")
	must(t, os.Chown(base+"/home/alice", 65533, 65533))
	before := newOpener(t, base+"/home/alice")
	f := locks(t, before, base+"/home/alice/file", OFD|BSD)
	answer := hungFUSE(t, base+"/home/alice", 65533)
	inTime(t, answer, func() {
		after := warned(t, []string{"uid 65533"}, base+"/home/alice")
		for _, o := range []*Opener{before, after} {
			refused(t, o, base+"/home/alice/file", ErrMount)
			refused(t, o, base+"/home/alice", ErrMount)
		}
		leadsElsewhere(t, before, f)
		closedFirst(t, f)
		answer()
		must(t, unix.Unmount(base+"/home/alice", unix.MNT_DETACH))
		closedFirst(t, locks(t, after, base+"/home/alice/file", OFD|BSD)) // no new Opener is needed when it is gone
	})
}

func fuseOnTheWay(t *testing.T, base string) {
	plant(t, base, "dir home/alice/x/y", "file home/alice/x/y/file")
	must(t, os.Chown(base+"/home/alice", 65533, 65533))
	must(t, os.Chown(base+"/home/alice/x", 65533, 65533))
	before := newOpener(t, base+"/home/alice/x/y")
	closedFirst(t, locks(t, before, base+"/home/alice/x/y/file", OFD|BSD))
	for _, at := range []string{"/home/alice/x", "/home/alice"} {
		answer := hungFUSE(t, base+at, 65533)
		inTime(t, answer, func() {
			after := warned(t, []string{"uid 65533", "can be moved"}[:1], base+"/home/alice/x/y")
			for _, o := range []*Opener{before, after} {
				refused(t, o, base+"/home/alice/x/y/file", ErrMount)
				refused(t, o, base+"/home/alice/x/y", ErrMount)
			}
		})
	}
}

func fuseInPlace(t *testing.T, base string) {
	plant(t, base, "dir home/alice/d/disk")
	for _, name := range []string{"/home/alice", "/home/alice/d"} {
		must(t, os.Chown(base+name, 65533, 65533))
	}
	mountOn(t, "tmpfs", base+"/home/alice/d/disk", "tmpfs", 0, "")
	plant(t, base, "file home/alice/d/disk/file")
	o := newOpener(t, base+"/home")
	closedFirst(t, locks(t, o, base+"/home/alice/d/disk/file", OFD|BSD))
	// A mount point cannot be renamed, its parent can.
	must(t, os.Rename(base+"/home/alice/d", base+"/home/alice/moved"))
	refused(t, o, base+"/home/alice/d/disk/file", ErrNotFound)
	plant(t, base, "dir home/alice/d/disk")
	answer := hungFUSE(t, base+"/home/alice/d/disk", 65533)
	inTime(t, answer, func() { refused(t, o, base+"/home/alice/d/disk/file", ErrMount) })
	above := hungFUSE(t, base+"/home/alice/d", 65533)
	inTime(t, above, func() { refused(t, o, base+"/home/alice/d/disk/file", ErrMount) })
	refused(t, o, base+"/home/alice/moved/disk/file", ErrMount)
}

// A user's FUSE can be mounted over a file of his: fusermount(1) does it for him.
func fuseOverABundlesFiles(t *testing.T, base string) {
	plant(t, base, "dir allowed/a.sparsebundle/bands", "file allowed/a.sparsebundle/token", "dir allowed/plain/bands", "file allowed/plain/token", "file allowed/plain/Info.plist")
	o := newOpener(t, base+"/allowed")
	held := locks(t, o, base+"/allowed/a.sparsebundle", OFD|BSD)
	answer := hungFUSE(t, base+"/allowed/a.sparsebundle/token", 65533)
	inTime(t, answer, func() {
		if fds, _, err := o.BundleDirs(held, 16); !errors.Is(err, ErrMoved) {
			closeAll(fds)
			t.Errorf("the directories of a bundle whose token is under a mount: %v", err)
		}
		if dir, inside := o.bundleOf(held); dir >= 0 {
			closeAll(append(inside, dir))
			t.Error("a bundle whose token is under a mount is watched")
		}
		if at, err := o.Written(t.Context(), held); err == nil {
			t.Errorf("a bundle whose token is under a mount was written at %v", at)
		}
	})
	plist := hungFUSE(t, base+"/allowed/plain/Info.plist", 65533)
	inTime(t, plist, func() {
		if f, err := o.Open(base+"/allowed/plain", Want{Mode: Exclusive}); err == nil {
			closedFirst(t, f)
		}
	})
	closedFirst(t, held)
}
