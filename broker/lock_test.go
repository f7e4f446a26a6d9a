package broker

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// outsideLock takes flock(2) as a program outside the broker would; the descriptor is given back.
func outsideLock(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatalf("flock %s: %v", path, err)
	}
	return f
}

// isFree reports whether somebody outside could take both kinds of lock.
func isFree(t testing.TB, path string) bool {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l) == nil
}

func TestALockKeepsOutBothEnginesUntilItIsReleased(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	p := r.dial()
	g := p.granted(attached(path))
	if g[0].ID == 0 || g[0].Already || g[0].Rests != wire.RestOFD|wire.RestFlock {
		t.Fatalf("grant %+v", g[0])
	}
	if isFree(t, path) {
		t.Error("free while held")
	}
	r.checkReplay()
	rel := p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})).(*wire.Released)
	if len(rel.IDs) != 1 || rel.IDs[0] != g[0].ID {
		t.Errorf("released %v", rel.IDs)
	}
	if !isFree(t, path) {
		t.Error("held after the release")
	}
	r.checkReplay()
}

func TestAWaiterIsGrantedWhenTheHolderReleasesOrLeaves(t *testing.T) {
	for _, how := range []string{"unlock", "close"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, nil)
			path := r.file("a")
			first, second := r.dial(), r.dial()
			g := first.granted(attached(path))
			id := second.send(attached(path))
			q := second.queued(id)
			if q.Position != 1 || len(q.Blockers) != 1 || q.Blockers[0].Kind != wire.Holder || q.Blockers[0].PID != int32(os.Getpid()) {
				t.Errorf("queued %+v", q)
			}
			if how == "unlock" {
				first.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}})
			} else {
				first.conn.Close()
			}
			if got := grants(t, second.answer(id)); got[0].ID <= g[0].ID {
				t.Errorf("token %d after %d", got[0].ID, g[0].ID)
			}
			r.checkReplay()
		})
	}
}

func TestNonBlockAndTimedWaitsNameTheHolder(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	first, second := r.dial(), r.dial()
	m := attached(path)
	m.Reason = "nightly"
	first.granted(m)
	for want, req := range map[wire.Code]*wire.Lock{
		wire.CodeBusy:    try(attached(path)),
		wire.CodeTimeout: timed(attached(path), time.Millisecond),
	} {
		e := second.refused(req)
		if e.Code != want || len(e.Blockers) != 1 || e.Blockers[0].Reason != "nightly" {
			t.Errorf("%v: got %+v", want, e)
		}
	}
}

func TestAHolderOutsideTheBrokerIsWaitedForAndNamed(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	f := outsideLock(t, path)
	p, behind := r.dial(), r.dial()
	if e := p.refused(try(attached(path))); e.Code != wire.CodeBusy || len(e.Blockers) != 1 || e.Blockers[0].Kind != wire.Outside {
		t.Errorf("nonblock: %+v", e)
	}
	id := p.send(attached(path))
	p.queued(id)
	other := behind.send(attached(path))
	behind.queued(other)
	f.Close()
	g := grants(t, p.answer(id))
	p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})
	grants(t, behind.answer(other))
	r.checkReplay()
}

func TestCancelAndDisconnectLeaveTheQueueAtOnce(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	f := outsideLock(t, path)
	p, gone, last := r.dial(), r.dial(), r.dial()
	id := p.send(attached(path)) // waits for the kernel
	p.queued(id)
	lost := gone.send(attached(path)) // waits for p
	gone.queued(lost)
	waits := last.send(attached(path))
	last.queued(waits)
	gone.conn.Close()
	if _, ok := p.answer(p.send(&wire.Cancel{Target: id})).(*wire.Done); !ok {
		t.Error("no Done")
	}
	if e := asError(t, p.answer(id)); e.Code != wire.CodeCanceled {
		t.Errorf("%+v", e)
	}
	f.Close()
	grants(t, last.answer(waits))
	r.checkReplay()
}

func TestTheSameOwnerIsToldAlreadyLocked(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	p := r.dial()
	g := p.granted(detached(path))
	again := p.granted(detached(path))
	if !again[0].Already || again[0].ID != g[0].ID {
		t.Errorf("%+v after %+v", again, g)
	}
	if e := p.refused(reader(detached(path))); e.Code != wire.CodeConversion {
		t.Errorf("%+v", e)
	}
	other := detached(path)
	other.Tag = "other"
	if e := p.refused(try(other)); e.Code != wire.CodeBusy {
		t.Errorf("another tag: %+v", e)
	}
}

func TestASetIsGrantedAllOrNone(t *testing.T) {
	r := newRig(t, nil)
	a, b, c := r.file("a"), r.file("b"), r.file("c")
	p, q := r.dial(), r.dial()
	p.granted(attached(b))
	if e := q.refused(try(attached(c, b, a))); e.Code != wire.CodeBusy {
		t.Fatalf("%+v", e)
	}
	if !isFree(t, a) || !isFree(t, c) {
		t.Error("a refused set left a lock behind")
	}
	f := outsideLock(t, c)
	if e := q.refused(try(attached(a, c))); e.Code != wire.CodeBusy {
		t.Fatalf("%+v", e)
	}
	if !isFree(t, a) {
		t.Error("a set that the kernel refused left a lock behind")
	}
	f.Close()
	g := q.granted(attached(c, a, c))
	if len(g) != 3 || g[0].ID != g[2].ID || g[0].ID == g[1].ID {
		t.Errorf("%+v", g)
	}
	r.checkReplay()
}

func TestADeadlockIsRefusedWithItsCircle(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.file("a"), r.file("b")
	p, q := r.dial(), r.dial()
	p.granted(attached(a))
	q.granted(attached(b))
	id := p.send(attached(b))
	p.queued(id)
	e := q.refused(attached(a))
	if e.Code != wire.CodeDeadlock || len(e.Blockers) == 0 {
		t.Fatalf("%+v", e)
	}
	q.conn.Close()
	grants(t, p.answer(id))
}

func TestAReplacedFileIsFollowed(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	p, q := r.dial(), r.dial()
	g := p.granted(attached(path))
	id := q.send(attached(path))
	q.queued(id)
	if err := os.Rename(r.file("new"), path); err != nil {
		t.Fatal(err)
	}
	p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})
	grants(t, q.answer(id))
	if isFree(t, path) {
		t.Error("the lock is on the file that was replaced, not on the one under the name")
	}
	r.checkReplay()
}

func TestALeaseEndsAHoldAndLetsTheNextIn(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	p, q := r.dial(), r.dial()
	m := detached(path)
	m.TTL = 30 * time.Millisecond
	if g := p.granted(m); g[0].Expires.IsZero() {
		t.Error("no end in the answer")
	}
	q.granted(attached(path))
	r.checkReplay()
}

func TestABrokenHoldKeepsItsPlaceUntilItsGraceIsOverOrUsed(t *testing.T) {
	for _, how := range []string{"used", "over"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, nil)
			path := r.file("a")
			p, q := r.dial(), r.dial()
			m := attached(path)
			m.Grace = wire.MaxGrace
			if how == "over" {
				m.Grace = 30 * time.Millisecond
			}
			g := p.granted(m)
			id := q.send(attached(path))
			q.queued(id)
			if rel, ok := q.answer(q.send(&wire.Break{By: wire.ByPath, Path: path, Reason: "now"})).(*wire.Released); !ok || len(rel.IDs) != 1 {
				t.Fatal("not broken")
			}
			if l := p.lost(); l.ID != g[0].ID || l.Cause != wire.Broken || l.Reason != "now" {
				t.Errorf("%+v", l)
			}
			r.checkReplay()
			if how == "used" {
				if isFree(t, path) {
					t.Error("free within the grace")
				}
				p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})
			}
			grants(t, q.answer(id))
			r.checkReplay()
		})
	}
}

func TestDetachedHoldsOutliveAStopAndAStart(t *testing.T) {
	r := newRig(t, nil)
	a, b, c := r.file("a"), r.file("b"), r.file("c")
	p := r.dial()
	ga, gb := p.granted(detached(a)), p.granted(detached(b))
	p.granted(attached(c))
	r.halt()
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(r.halt)
	r.checkReplay()
	if isFree(t, a) || !isFree(t, c) {
		t.Error("the detached lock was not taken back, or the attached one was")
	}
	p = r.dial()
	if again := p.granted(detached(a)); !again[0].Already || again[0].ID != ga[0].ID {
		t.Errorf("%+v, want token %d again", again, ga[0].ID)
	}
	rows := p.answer(p.send(&wire.List{})).(*wire.Rows).Rows
	if len(rows) != 2 || rows[0].Kind != wire.RowHolder || rows[1].Kind != wire.RowLost || rows[1].ID != gb[0].ID {
		t.Errorf("%+v", rows)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{b}}))
	if rows := p.answer(p.send(&wire.List{})).(*wire.Rows).Rows; len(rows) != 1 {
		t.Errorf("a lost hold that was cleared is still listed: %+v", rows)
	}
}
