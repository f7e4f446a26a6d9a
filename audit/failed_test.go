package audit

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAGapRecordExplainsWhatCouldNotBeKept(t *testing.T) {
	for _, kind := range []faultKind{eio, short, syncLost} { // no new segment; one that cannot be written; that cannot be synced
		t.Run(string(kind), func(t *testing.T) { gapAfter(t, kind) })
	}
}

func gapAfter(t *testing.T, kind faultKind) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir() + "/audit"
		f := &faulty{kind: kind}
		l, err := Open(Config{Dir: dir, GID: -1, FS: f.wrap})
		if err != nil {
			t.Fatal(err)
		}
		var holds []uint64
		for range 3000 {
			id := must(t, l, grant("/srv/a"))
			holds = append(holds, id)
		}
		if err := l.Commit(holds[len(holds)-1], true); err != nil {
			t.Fatal(err)
		}
		f.fromNow()
		if seq := must(t, l, release(holds[0])); !errors.Is(l.Commit(seq, true), ErrFailed) {
			t.Fatal("a durable commit on a disk that fails")
		}
		if h := l.Health(); !errors.Is(h.Err, ErrFailed) || h.HeldBack == 0 {
			t.Fatalf("health %+v", h)
		}
		if _, err := l.Append(grant("/srv/b")); !errors.Is(err, ErrFailed) {
			t.Fatalf("a grant: %v", err)
		}
		long := strings.Repeat("x", 1000)
		for _, id := range holds[1:2500] { // more than is held back
			r := release(id)
			r.Text = long
			seq := must(t, l, r)
			if err := l.Commit(seq, false); !errors.Is(err, ErrFailed) {
				t.Fatalf("commit: %v", err)
			}
		}
		for range 10000 {
			if seq := must(t, l, &Record{Event: EventDeny}); seq != 0 {
				t.Fatal("a denial is kept while nothing can be written")
			}
		}
		synctest.Wait() // a try that is under way may hold more
		l.mu.Lock()
		kept := len(l.fresh)
		l.mu.Unlock()
		if kept > maxHeldBack {
			t.Errorf("%d bytes are held back", kept)
		}
		<-time.After(5 * retryEvery) // tries that fail
		must(t, l, release(holds[2500]))
		f.heal()
		for l.Health().Err != nil {
			<-time.After(retryEvery)
		}
		if err := l.Commit(holds[2999]+100, false); !errors.Is(err, ErrFailed) {
			t.Errorf("commit of a record that was dropped: %v", err)
		}
		putRec(t, l, &Record{Event: EventDeny}, true)
		must(t, l, &Record{Event: EventStop})
		state := l.State()
		if state.Len() != 499 {
			t.Errorf("%d holds", state.Len())
		}
		closeLog(t, l)
		sameState(t, "after a gap", replayAll(t, dir), state)
		rep := verifyClean(t, dir)
		var gap, left *Record
		for _, r := range recordsIn(t, dir) {
			switch r.Event {
			case EventGap:
				gap = &r
			case EventSuppressed:
				left = &r
			}
		}
		if gap == nil || gap.First == 0 || gap.Last < gap.First+2000 || len(rep.Notes) != 1 {
			t.Errorf("gap %+v, notes %+v", gap, rep.Notes)
		}
		if left == nil || left.Count != 10000 {
			t.Errorf("suppressed %+v", left)
		}
	})
}

func TestWhatWasRefusedIsNotHeldAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir() + "/audit"
		f := &faulty{kind: enospc, spared: "truncate"}
		l, err := Open(Config{Dir: dir, GID: -1, FS: f.wrap})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * flushAfter)
		f.fromNow() // writes stop half way
		for range 3 {
			must(t, l, grant("/srv/a"))
		}
		if err := l.Commit(l.Health().Seq, false); !errors.Is(err, ErrFailed) {
			t.Fatalf("commit: %v", err)
		}
		l.kill()
		l = openLog(t, Config{Dir: dir, FS: fast})
		if n := l.Replayed().Len(); n != 0 {
			t.Errorf("%d holds that nobody was granted", n)
		}
		closeLog(t, l)
		verifyClean(t, dir)
	})
}

// The spare that was made when there were few holds is too small for the checkpoint of many.
func TestASpareThatHasBecomeTooSmallIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir() + "/audit"
		f := &faulty{kind: enospc}
		l, err := Open(Config{Dir: dir, GID: -1, SegmentSize: 16 << 10, FS: f.wrap})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f.only("create")
		n := 0
		for ; err == nil; n++ {
			var id uint64
			if id, err = l.Append(grant("/srv/a")); err == nil {
				err = l.Commit(id, false)
			}
		}
		if !errors.Is(err, ErrFull) || l.Health().SpareErr == nil {
			t.Fatalf("after %d grants: %v, health %+v", n, err, l.Health())
		}
		<-time.After(5 * retryEvery)
		f.heal()
		<-time.After(2 * retryEvery)
		for range 200 {
			putRec(t, l, grant("/srv/a"), false)
		}
		closeLog(t, l)
		if rep := verifyClean(t, dir); rep.Segments < 2 || rep.Holds < 200 {
			t.Errorf("%+v", rep)
		}
	})
}
