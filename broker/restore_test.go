package broker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// inKeeper gives the ids that the keeper has while no broker runs; with may use the entries before they are closed.
func (s *shelf) inKeeper(with func(*keeper.Conn, []keeper.Entry)) (ids []uint64) {
	s.r.t.Helper()
	conn, err := keeper.Dial(context.Background(), s.path)
	if err != nil {
		s.r.t.Fatal(err)
	}
	defer conn.Close()
	entries, _, err := conn.List(context.Background())
	if err != nil {
		s.r.t.Fatal(err)
	}
	if with != nil {
		with(conn, entries)
		if err := conn.Sync(context.Background()); err != nil {
			s.r.t.Fatal(err)
		}
	}
	for _, e := range entries {
		ids = append(ids, e.ID)
		closeEntry(e)
	}
	slices.Sort(ids)
	return ids
}

func TestTheKeeperHasACopyOfEveryHoldAndPlaceAndOfNothingElse(t *testing.T) {
	r, s := withKeeper(t, nil)
	p, q := r.dial2(), r.dial2()
	g := p.granted(attached(r.file("a"), r.file("b")))
	d := p.granted(detached(r.file("c")))
	id := q.send(attached(r.files+"/a", r.files+"/c"))
	q.queued(id)
	gone := p.granted(attached(r.file("d")))
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: gone[0].ID}))
	other := r.dial2()
	left := other.send(attached(r.files + "/a"))
	other.queued(left)
	other.answer(other.send(&wire.Cancel{Target: left}))
	s.leave()
	ids := s.inKeeper(nil)
	holds := ids[:slices.IndexFunc(ids, func(id uint64) bool { return id&waitBit != 0 })]
	if want := sortedIDs(g[0].ID, g[1].ID, d[0].ID); !slices.Equal(holds, want) || len(ids)-len(holds) != 2 {
		t.Errorf("kept %x, want holds %v and two places", ids, want)
	}
	s.back()
	p.resumed(r)
	p.answer(p.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
	for _, h := range g {
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: h.ID}))
	}
	q.resumed(r)
	q.conn.Close()
	eventually(t, "nobody waits", func() bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return len(r.b.table.allWaiting()) == 0
	})
	s.leave()
	if ids := s.inKeeper(nil); len(ids) != 0 {
		t.Errorf("kept %x of nothing", ids)
	}
	s.back()
}

func TestAClaimThatQueuesWhileEverythingIsSentAgainHasOnePlace(t *testing.T) {
	r, s := withKeeper(t, nil)
	p, q := r.dial2(), r.dial2()
	p.granted(attached(r.file("a")))
	q.queued(q.send(attached(r.files + "/a"))) // and so it is placed already when its turn comes to be sent again
	r.b.mu.Lock()
	conn, claims := r.b.keeping.conn, r.b.table.allWaiting()
	r.b.mu.Unlock()
	must(t, r.b.upload(t.Context(), conn, nil, claims))
	s.leave()
	if ids := s.inKeeper(nil); len(ids) != 2 {
		t.Errorf("kept %x, want a hold and a place", ids)
	}
	s.back()
}

func TestACopyOfALockThatWasBeingReleasedIsThrownAway(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	g := p.granted(attached(r.file("a")))
	s.crash()
	s.inKeeper(func(_ *keeper.Conn, entries []keeper.Entry) { // U2 of the release: for all copies
		unix.Flock(entries[0].Lock, unix.LOCK_UN)
		l := unix.Flock_t{Type: unix.F_UNLCK}
		must(t, unix.FcntlFlock(uintptr(entries[0].Lock), unix.F_OFD_SETLK, &l))
	})
	s.back()
	if rel := r.records(audit.EventRelease); len(rel) != 1 || rel[0].ID != g[0].ID {
		t.Errorf("%+v", rel)
	}
	if e, ok := p.again(r).(*wire.Error); !ok || e.Code != wire.CodeLost {
		t.Errorf("%+v: a session that has nothing is no session", e)
	}
	p.granted(attached(r.files + "/a"))
	s.leave()
	if ids := s.inKeeper(nil); len(ids) != 1 || ids[0] == g[0].ID {
		t.Errorf("kept %v", ids)
	}
	s.back()
}

func TestACopyThatTheLogDoesNotKnowWasNeverAnswered(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	first := p.granted(attached(r.file("a")))
	path := r.file("b")
	r.records()
	before := filepath.Join(r.dir, "before")
	must(t, os.CopyFS(before, os.DirFS(filepath.Join(r.dir, "audit"))))
	p.granted(attached(path))
	s.leave()
	dir := filepath.Join(r.dir, "audit") // as if lockerd had died before the second record was written
	must(t, os.RemoveAll(dir))
	must(t, os.Rename(before, dir))
	s.back()
	if !isFree(t, path) {
		t.Error("a lock that nobody was promised is still held")
	}
	if ids := p.resumed(r); !slices.Equal(ids, []uint64{first[0].ID}) {
		t.Errorf("%v", ids)
	}
}

func TestALogThatWasLostLosesNoLockAndNoNumber(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	at, de := p.granted(attached(r.file("a"))), p.granted(detached(r.file("b")))
	s.leave()
	must(t, os.RemoveAll(filepath.Join(r.dir, "audit")))
	s.back()
	root := r.dial2()
	rows := root.rowsOf(root.send(&wire.List{All: true}))
	if len(rows) != 2 || rows[0].Kind != wire.RowOrphan || rows[1].Kind != wire.RowOrphan || rows[0].Path != r.files+"/a" || rows[1].ID != de[0].ID {
		t.Errorf("%+v", rows)
	}
	old := r.dial()
	for _, row := range old.rowsOf(old.send(&wire.List{All: true})) {
		if row.Kind != wire.RowHolder {
			t.Errorf("a client of version 1 is shown kind %v", row.Kind)
		}
	}
	if ids := p.resumed(r); !slices.Equal(ids, []uint64{at[0].ID}) {
		t.Errorf("%v", ids)
	}
	if rel := root.answer(root.send(&wire.Break{By: wire.ByID, ID: de[0].ID, Reason: "nobody's"})).(*wire.Released); len(rel.IDs) != 1 || !isFree(t, r.files+"/b") {
		t.Errorf("%+v", rel)
	}
	if g := root.granted(attached(r.file("c"))); g[0].ID <= de[0].ID {
		t.Errorf("token %d after %d", g[0].ID, de[0].ID)
	}
	r.checkReplay()
}

func TestWhenBothHaveDiedHoldsAreClaimedAgainFromTheLog(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	at, gone := p.granted(attached(r.file("a"))), p.granted(attached(r.file("x")))
	unheard := p.send(detached(r.file("b")))
	de := grants(t, p.answer(unheard))
	dying := startChild(t, "keen", r.socket, r.file("c"))
	v1 := r.dial()
	v1.granted(attached(r.file("d")))
	s.crash()
	s.end()
	dying.end()
	for _, name := range []string{"a", "b", "c", "d", "x"} {
		if !isFree(t, r.files+"/"+name) {
			t.Fatalf("%s is held by nobody and not free", name)
		}
	}
	taken := outsideLock(t, r.files+"/x")
	defer taken.Close()
	s.start()
	s.back()
	for _, name := range []string{"a", "b"} {
		if isFree(t, r.files+"/"+name) {
			t.Errorf("%s is not claimed again", name)
		}
	}
	for _, name := range []string{"c", "d"} {
		if !isFree(t, r.files+"/"+name) {
			t.Errorf("%s is held for a process that cannot come back", name)
		}
	}
	back := r.records(audit.EventResume)
	if len(back) != 2 || back[0].ID != at[0].ID || back[1].ID != de[0].ID || back[0].Gap <= 0 || back[1].Gap <= 0 {
		t.Errorf("%+v", back)
	}
	if lost := r.records(audit.EventLost); len(lost) != 1 || lost[0].ID != gone[0].ID {
		t.Errorf("%+v", lost)
	}
	if ids := p.resumed(r); !slices.Equal(ids, []uint64{at[0].ID}) {
		t.Errorf("%v: what is lost is not among them", ids)
	}
	p.repeat(unheard, detached(r.files+"/b"))
	if g := grants(t, p.answer(unheard)); g[0].ID != de[0].ID || g[0].Already {
		t.Errorf("%+v, want %+v as if for the first time", g, de)
	}
	s.leave() // and the keeper has them again
	if ids := s.inKeeper(nil); !slices.Equal(ids, []uint64{at[0].ID, de[0].ID}) {
		t.Errorf("kept %v", ids)
	}
	s.back()
}

func TestAfterARebootDetachedHoldsAreClaimedAgainAndAttachedOnesHaveEnded(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	at, de := p.granted(attached(r.file("a"))), p.granted(detached(r.file("b")))
	s.crash()
	s.end()
	s.boot = "fedcba9876543210fedcba9876543210"
	s.start()
	s.back()
	if !isFree(t, r.files+"/a") || isFree(t, r.files+"/b") {
		t.Error("the attached one is held, or the detached one is not")
	}
	if dead := r.records(audit.EventDeath); len(dead) != 1 || dead[0].ID != at[0].ID {
		t.Errorf("%+v", dead)
	}
	if back := r.records(audit.EventResume); len(back) != 1 || back[0].ID != de[0].ID {
		t.Errorf("%+v", back)
	}
	if e, ok := p.again(r).(*wire.Error); !ok || e.Code != wire.CodeLost {
		t.Errorf("%+v", e)
	}
	if g := p.granted(attached(r.file("c"))); g[0].ID <= de[0].ID {
		t.Errorf("token %d after %d", g[0].ID, de[0].ID)
	}
}

func TestWithoutAKeeperNothingIsGrantedAndEverythingReleased(t *testing.T) {
	r, s := withKeeper(t, nil)
	p, q := r.dial2(), r.dial2()
	a, b := r.file("a"), r.file("b")
	g := p.granted(attached(a))
	de := p.granted(detached(b))
	waits := q.send(attached(a))
	q.queued(waits)
	s.end()
	eventually(t, "it is noticed", func() bool { return p.answer(p.send(&wire.Status{})).(*wire.StatusReply).KeeperPID == 0 })
	c := r.file("c")
	paused := q.send(attached(c))
	short := q.send(timed(attached(r.file("d")), 50*time.Millisecond))
	if e := asError(t, q.answer(short)); e.Code != wire.CodeTimeout || !isFree(t, r.files+"/d") {
		t.Errorf("%+v", e)
	}
	now := q.send(try(attached(a)))
	if e := asError(t, q.answer(now)); e.Code != wire.CodeBusy {
		t.Errorf("%+v: it is busy, keeper or not", e)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	soon := q.send(try(attached(r.file("e")))) // does not wait for others, but for lockerd itself a little
	if q.isAnswered(waits) || q.isAnswered(paused) || q.isAnswered(soon) {
		t.Error("granted without a copy in the keeper")
	}
	s.start()
	first, second, third := grants(t, q.answer(waits)), grants(t, q.answer(paused)), grants(t, q.answer(soon))
	s.crash()
	if ids := s.inKeeper(nil); !slices.Equal(ids, sortedIDs(de[0].ID, first[0].ID, second[0].ID, third[0].ID)) {
		t.Errorf("kept %v", ids)
	}
	s.back()
	if ids := q.resumed(r); len(ids) != 3 {
		t.Errorf("%v", ids)
	}
}

func sortedIDs(ids ...uint64) []uint64 { slices.Sort(ids); return ids }

// isAnswered reports whether a request has its last answer already; a question that is answered after it is asked in between.
func (p *peer) isAnswered(id uint32) bool {
	p.t.Helper()
	p.answer(p.send(&wire.Status{}))
	return slices.ContainsFunc(p.kept, func(k kept) bool {
		_, queued := k.m.(*wire.Queued)
		return k.id == id && !queued
	})
}

func TestALeaseEndsOnTimeWhateverTheWallClockSays(t *testing.T) {
	for _, year := range []int{-1, 1} {
		var clock still
		r, s := withKeeper(t, clock.drive)
		m := detached(r.file("a"))
		m.TTL = time.Hour
		r.dial2().granted(m)
		s.crash()
		s.tweak = func(c *Config) { c.Now = func() time.Time { return time.Now().AddDate(year, 0, 0) } }
		s.back()
		clock.forward(r, time.Hour-time.Minute)
		r.b.endDue(t.Context())
		if isFree(t, r.files+"/a") {
			t.Errorf("%+d year: ended before its time", year)
		}
		clock.forward(r, 2*time.Minute)
		eventually(t, "it ends", func() bool { return isFree(t, r.files+"/a") })
	}
}

func TestAnAdoptedDescriptorHoldsWhatTheKernelSays(t *testing.T) {
	r := newRig(t, nil)
	opener, _, err := flock.NewOpener([]string{r.files})
	must(t, err)
	path := r.file("a")
	f, err := opener.Open(path, flock.Want{Mode: flock.Exclusive})
	must(t, err)
	defer f.Close()
	dup := func() int {
		fd, err := unix.FcntlInt(uintptr(f.FD()), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		return fd
	}
	if _, err := opener.Examine(f.FD()).Adopt(path, path, flock.Exclusive); err == nil {
		t.Error("adopted without a lock")
	}
	must(t, f.TryLock(flock.Exclusive))
	copied := dup()
	if _, err := opener.Examine(copied).Adopt(path, path, flock.Shared); err == nil {
		t.Error("adopted in the other mode")
	}
	g, err := opener.Examine(copied).Adopt(path, path, flock.Exclusive)
	must(t, err)
	if g.ID != f.ID || g.Engines != flock.OFD|flock.BSD {
		t.Errorf("%+v, want as %+v", g, f)
	}
	if err := g.TryLock(flock.Exclusive); err == nil {
		t.Error("a descriptor that holds its lock was locked again")
	}
	must(t, g.Unlock())
	if !isFree(t, path) {
		t.Error("unlocked through the copy, and not free")
	}
	g.Close()
}
