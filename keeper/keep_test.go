package keeper

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatIsPutIsListed(t *testing.T) {
	leaksNothing(t, "put", func(t *testing.T) {
		r := newRig(t).serve()
		c := r.dial()
		wantList(t, c)
		long := strings.Repeat("x", MaxBlob)
		for _, e := range []Entry{
			{ID: 3, Blob: []byte("both"), Lock: file(t, 31), Holder: file(t, 32)},
			{ID: 1, Blob: []byte("lock"), Lock: file(t, 11), Holder: -1},
			{ID: 1<<64 - 1, Blob: []byte("holder"), Lock: -1, Holder: file(t, 92)},
			{ID: 0, Lock: -1, Holder: -1},
			{ID: 4, Blob: []byte(long), Lock: file(t, 41), Holder: file(t, 42)},
			{ID: 5, Blob: []byte("before"), Lock: file(t, 51), Holder: file(t, 52)},
			{ID: 6, Blob: []byte("before"), Lock: file(t, 61), Holder: file(t, 62)},
			{ID: 7, Blob: []byte("before"), Lock: file(t, 71), Holder: file(t, 72)},
		} {
			must(t, c.Put(e))
		}
		c.Drop(5)
		must(t, c.Set(6, []byte(long)))
		must(t, c.Put(Entry{ID: 7, Blob: []byte("replaced"), Lock: file(t, 73), Holder: -1}))
		must(t, c.Set(99, []byte("nobody"))) // of an entry that another request has dropped
		c.Drop(99)
		want := []string{"0 -1 -1 ", "1 11 -1 lock", "3 31 32 both", "4 41 42 " + long, "6 61 62 " + long, "7 73 -1 replaced", "18446744073709551615 -1 92 holder"}
		wantList(t, c, want...)
		wantList(t, c, want...)
		must(t, c.Close())
		wantList(t, r.dial(), want...)
		if w := r.warned(); w != "" {
			t.Errorf("warned: %s", w)
		}
		r.stop()
	})
}

func TestPastSaysWhatTheKeeperKnows(t *testing.T) {
	r := newRig(t).serve()
	c := r.dial()
	entry := func(id uint64) Entry { return Entry{ID: id, Lock: file(t, 0), Holder: -1} }
	if past := wantList(t, c); past.Complete || past.Highest != 0 || past.Room != descriptorsForEntries()/2 || past.Room < 100 {
		t.Errorf("of a new keeper: %+v", past)
	}
	must(t, c.Put(entry(7)))
	must(t, c.Put(entry(1<<63+9))) // the top bit keeps it from being the highest
	must(t, c.Put(entry(5)))
	c.Drop(7)
	if past := wantList(t, c, "5 0 -1 ", "9223372036854775817 0 -1 "); past.Complete || past.Highest != 7 {
		t.Errorf("before a sync: %+v", past)
	}
	must(t, c.Sync(t.Context()))
	must(t, c.Close())
	c = r.dial()
	if past := wantList(t, c, "5 0 -1 ", "9223372036854775817 0 -1 "); !past.Complete || past.Highest != 7 {
		t.Errorf("after a sync: %+v", past)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.synced) != 1 || int(r.synced[0]) != os.Getpid() || c.PID() != r.synced[0] {
		t.Errorf("synced %v, and the keeper is %d; both are %d", r.synced, c.PID(), os.Getpid())
	}
}

func TestABlobThatIsTooLongIsRefused(t *testing.T) {
	c := newRig(t).serve().dial()
	if err := c.Put(Entry{ID: 1, Blob: make([]byte, MaxBlob+1), Lock: -1, Holder: -1}); err == nil {
		t.Error("put it")
	}
	if err := c.Set(1, make([]byte, MaxBlob+1)); err == nil {
		t.Error("set it")
	}
	if err := c.Put(Entry{ID: 1, Lock: 1 << 20, Holder: -1}); err == nil {
		t.Error("put a descriptor that is none")
	}
	wantList(t, c)
}

func TestCopiesAreClosedOnExec(t *testing.T) {
	c := newRig(t).serve().dial()
	fd := file(t, 0)
	must(t, c.Put(Entry{ID: 1, Lock: fd, Holder: fd}))
	entries, _, err := c.List(t.Context())
	must(t, err)
	defer closeBoth(entries[0])
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	must(t, err)
	copies := 0
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, f := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + f.Name()); to != name {
			continue
		}
		copies++
		n, err := strconv.Atoi(f.Name())
		must(t, err)
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %s is inherited by children", f.Name())
		}
	}
	if copies != 5 { // ours, two of the keeper, two of the list
		t.Errorf("%d copies, want 5", copies)
	}
}
