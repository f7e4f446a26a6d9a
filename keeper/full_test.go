package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// fill puts entries until the queue is full, and gives their number.
func fill(t testing.TB, c *Conn, fd int) int {
	t.Helper()
	for n := 0; ; n++ {
		err := c.Put(Entry{ID: uint64(n), Blob: []byte("filled"), Lock: fd, Holder: fd})
		if errors.Is(err, ErrFull) {
			if n < 50 {
				t.Fatalf("the queue is full after %d entries", n)
			}
			return n
		}
		must(t, err)
	}
}

func filled(from, to int) (lines []string) {
	for n := from; n < to; n++ {
		lines = append(lines, fmt.Sprintf("%d 5 5 filled", n))
	}
	return lines
}

func TestAFullQueueRefusesAndLosesNothing(t *testing.T) {
	leaksNothing(t, "full", func(t *testing.T) {
		c, end := pair(t)
		fd := file(t, 5)
		n := fill(t, c, fd)
		if err := c.Put(Entry{ID: 1 << 40, Lock: fd, Holder: fd}); !errors.Is(err, ErrFull) {
			t.Errorf("one more: %v", err)
		}
		if err := c.Set(1<<40, nil); !errors.Is(err, ErrFull) {
			t.Errorf("and a blob: %v", err)
		}
		var waiting sync.WaitGroup
		for i := range 10 {
			waiting.Go(func() {
				if err := upload(t.Context(), c, Entry{ID: uint64(n + i), Blob: []byte("filled"), Lock: fd, Holder: fd}); err != nil {
					t.Errorf("upload: %v", err)
				}
			})
		}
		_, join := servePair(t, end)
		waiting.Wait()
		must(t, c.Sync(t.Context()))
		wantList(t, c, filled(0, n+10)...)
		must(t, c.Close())
		join()
	})
}

func TestAwaitWaitsNoLongerThanItsContext(t *testing.T) {
	c, end := pair(t)
	fd := file(t, 5)
	n := fill(t, c, fd)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for _, wait := range []func() error{
		func() error { return upload(ctx, c, Entry{ID: 1 << 40, Lock: fd, Holder: fd}) },
		func() error { return c.Sync(ctx) },
	} {
		waiting.Go(func() {
			if err := wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that it was canceled", err)
			}
		})
	}
	cancel()
	waiting.Wait()
	servePair(t, end)
	must(t, c.Sync(t.Context()))
	wantList(t, c, filled(0, n)...)
}

func TestDropIsNeverLost(t *testing.T) {
	c, end := pair(t)
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	must(t, c.Put(Entry{ID: 1 << 40, Lock: int(write.Fd()), Holder: -1}))
	write.Close()
	fd := file(t, 5)
	n := fill(t, c, fd)
	for id := range n {
		if id%2 == 0 {
			c.Drop(uint64(id))
		}
	}
	c.Drop(1 << 40)
	if err := c.Put(Entry{ID: 0, Blob: []byte("overtakes its drop"), Lock: fd, Holder: fd}); !errors.Is(err, ErrFull) {
		t.Errorf("put while drops wait: %v", err)
	}
	servePair(t, end)
	// Nobody sends anything any more, and the last drop arrives all the same: the keeper's copy of the pipe is closed.
	if n, _ := read.Read(make([]byte, 1)); n != 0 {
		t.Error("something came through the pipe")
	}
	must(t, c.Put(Entry{ID: 0, Blob: []byte("again"), Lock: fd, Holder: -1}))
	want := []string{"0 5 -1 again"}
	for id := 1; id < n; id += 2 {
		want = append(want, filled(id, id+1)...)
	}
	wantList(t, c, want...)
}

// What was remembered goes before what is sent later, also when the queue has just a little room.
func TestNothingOvertakesADrop(t *testing.T) {
	c, end := pair(t)
	fd := file(t, 5)
	n := fill(t, c, fd)
	for id := range n {
		c.Drop(uint64(id))
	}
	// The keeper reads some, by hand, so that there is a little room before the watcher has seen any.
	s := &Server{kept: newEntries()}
	b, err := s.newLink(end, 0)
	must(t, err)
	defer b.conn.close()
	for range n / 10 {
		must(t, b.in.receive())
		b.take()
		if err := c.Put(Entry{ID: uint64(n), Lock: fd, Holder: fd}); err == nil {
			t.Fatal("a put overtook drops")
		}
	}
	var uploaded sync.WaitGroup
	uploaded.Go(func() {
		if err := upload(t.Context(), c, Entry{ID: uint64(1), Lock: fd, Holder: fd}); err != nil {
			t.Error(err)
		}
		c.Close()
	})
	for b.in.receive() == nil {
		b.take()
	}
	uploaded.Wait()
	if ids := s.kept.ids(); len(ids) != 1 || ids[0] != 1 {
		t.Errorf("%d entries are left, want 1 alone: %.50v", len(ids), ids)
	}
	s.close()
}

// The kernel counts descriptors in flight for each user, and lets him have as many as he may open. unix(7), ETOOMANYREFS.
func TestTooManyDescriptorsInFlightAreAFullQueue(t *testing.T) {
	if runsAsOrdinaryUser(t) {
		return
	}
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	c, end := pair(t)
	fd := file(t, 5)
	low := limit
	low.Cur = 100
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	n := fill(t, c, fd)
	if n > 60 {
		t.Errorf("%d entries with two descriptors each fit in a queue of 100", n)
	}
	next := Entry{ID: uint64(n), Blob: []byte("filled"), Lock: fd, Holder: fd}
	ctx, cancel := context.WithTimeout(t.Context(), 10*crowdedPause)
	defer cancel()
	if err := upload(ctx, c, next); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("upload: %v", err)
	}
	c.Drop(0) // brings no descriptors, so it goes
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	servePair(t, end)
	must(t, upload(t.Context(), c, next))
	wantList(t, c, filled(1, n+1)...)
}

func TestAListWaitsUntilFewerDescriptorsAreInFlight(t *testing.T) {
	if runsAsOrdinaryUser(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "keeper.sock")
	k := startChild(t, "keeper", path)
	c := dialKeeper(t, path)
	fd := file(t, 5)
	for id := range 100 {
		must(t, c.Put(Entry{ID: uint64(id), Blob: []byte("filled"), Lock: fd, Holder: fd}))
	}
	must(t, c.Sync(t.Context()))
	k.limit(20)
	wantList(t, c, filled(0, 100)...)
}

func TestThereIsRoomForAsManyEntriesAsDescriptors(t *testing.T) {
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	r := newRig(t)
	low := limit
	low.Cur = 400
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	c := r.serve().dial()
	past := wantList(t, c)
	if past.Room != (400-reserve)/2 {
		t.Fatalf("there is room for %d", past.Room)
	}
	fd := file(t, 5)
	put := func(id int) error { // waits where the queue is full, and not where the keeper is
		return upload(t.Context(), c, Entry{ID: uint64(id), Blob: []byte("filled"), Lock: fd, Holder: fd})
	}
	for id := range past.Room {
		must(t, put(id))
	}
	if err := put(past.Room); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	if err := c.Put(Entry{ID: uint64(past.Room), Lock: fd, Holder: fd}); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	must(t, put(3)) // it is there
	// Dropping makes room, twenty times over: nothing is counted twice.
	for id := range 20 * past.Room {
		c.Drop(uint64(id))
		must(t, put(id+past.Room))
	}
	must(t, c.Sync(t.Context()))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) // the list is for us too
	wantList(t, c, filled(20*past.Room, 21*past.Room)...)
	if w := r.warned(); w != "" {
		t.Error(w)
	}
}
