package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// lockedFile is a file to lock, and a second description of it to try it with.
func lockedFile(t testing.TB) (path string, probe int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "locked")
	must(t, os.WriteFile(path, nil, 0o600))
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return path, int(f.Fd())
}

func isLocked(t testing.TB, probe int) bool {
	t.Helper()
	err := unix.Flock(probe, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true
	}
	must(t, err)
	must(t, unix.Flock(probe, unix.LOCK_UN))
	return false
}

func TestALockLivesWhileItsOnlyCopyIsInFlight(t *testing.T) {
	leaksNothing(t, "in flight", func(t *testing.T) {
		r := newRig(t) // nobody accepts yet
		path, probe := lockedFile(t)
		startChild(t, "broker", r.path, path, "1").kill()
		if !isLocked(t, probe) {
			t.Fatal("the broker died and its lock with it")
		}
		r.serve()
		c := r.dial()
		wantList(t, c, "0 0 -1 in flight")
		if !isLocked(t, probe) {
			t.Fatal("the keeper has lost the lock")
		}
		c.Drop(0)
		must(t, unix.Flock(probe, unix.LOCK_EX)) // comes when the keeper has closed the last copy
	})
}

func TestTheNextBrokerIsServedOnlyAfterTheLastWasDrained(t *testing.T) {
	const n = 2000
	r := newRig(t)
	path, probe := lockedFile(t)
	first := startChild(t, "broker", r.path, path, fmt.Sprint(n))
	c := r.dial()
	type answer struct {
		entries []Entry
		err     error
	}
	listed := make(chan answer, 1)
	go func() {
		entries, _, err := c.List(t.Context())
		listed <- answer{entries, err}
	}()
	first.kill()
	r.serve()
	got := <-listed
	must(t, got.err)
	if len(got.entries) != n {
		t.Errorf("the next broker was told of %d entries, the last had put %d", len(got.entries), n)
	}
	for _, e := range got.entries {
		closeBoth(e)
	}
	if !isLocked(t, probe) {
		t.Error("the lock is lost")
	}
}

// Also while the last one lives: what it puts long after the next has asked is in the next one's list.
func TestTheNextBrokerWaitsForTheEndOfTheLast(t *testing.T) {
	r := newRig(t).serve()
	first := r.dial()
	must(t, first.Sync(t.Context())) // it is being served
	second := r.stranger()
	must(t, sendRaw(t, second, appendMessage(nil, &message{kind: kindList}))) // it has asked
	for range 100 {
		must(t, first.Sync(t.Context()))
	}
	must(t, first.Put(Entry{ID: 1, Blob: []byte("late"), Lock: file(t, 5), Holder: -1}))
	must(t, first.Close())
	answer := make([]byte, maxMessage)
	var m message
	for _, want := range []kind{kindEntry, kindEnd} {
		n, err := second.Read(answer)
		must(t, err)
		must(t, parseMessage(answer[:n], &m))
		if m.kind != want {
			t.Fatalf("the second was told %+v, want kind %#x", m, want)
		}
	}
	if m.count != 1 {
		t.Errorf("the second was told the end %+v", m)
	}
}

// A broker that dies before it has read an answer resets the connection: the keeper's next read fails, and what the broker
// had sent comes after that.
func TestABrokerThatDiesWithUnreadAnswersLosesNothing(t *testing.T) {
	leaksNothing(t, "unread", func(t *testing.T) {
		broker, end := ends(t)
		s := &Server{kept: newEntries()}
		out, err := newSender(broker)
		must(t, err)
		for id := range 10 {
			must(t, out.send(&message{kind: kindPut, id: uint64(id)}, file(t, 5), -1))
		}
		answer, err := newSender(end)
		must(t, err)
		must(t, answer.send(&message{kind: kindSynced, number: 1}, -1, -1))
		must(t, broker.Close())
		if err := s.serve(t.Context(), end); err != nil {
			t.Errorf("serve: %v", err)
		}
		if s.kept.len() != 10 {
			t.Errorf("%d entries are kept, want 10", s.kept.len())
		}
		s.close()
	})
}

func TestWhatWasSentBeforeCloseIsKept(t *testing.T) {
	c, end := pair(t)
	fd := file(t, 5)
	n := fill(t, c, fd)
	must(t, c.Close())
	s := &Server{kept: newEntries()}
	if err := s.serve(t.Context(), end); err != nil {
		t.Errorf("serve: %v", err)
	}
	if s.kept.len() != n {
		t.Errorf("%d entries are kept, want %d", s.kept.len(), n)
	}
	s.close()
}
