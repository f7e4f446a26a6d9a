package broker

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"locker/audit"
	"locker/flock"
	"locker/wire"
)

const idleRests = wire.RestOFD | wire.RestFlock | wire.RestIdle

// mac makes a bundle, and gives its path and its token's.
func (r *rig) mac() (bundle, token string) {
	bundle = r.bundle("mac.sparsebundle", "token", "bands/")
	return bundle, bundle + "/token"
}

// opener fails unless the one who is in the way is c, and is told as far as a program outside can be. ask asks who it is, again and
// again: on a busy machine a search is cut off by its clock, or has to wait until the ones before are paid off.
func opener(t testing.TB, c *child, path string, ask func() []wire.Blocker) {
	t.Helper()
	var list []wire.Blocker
	eventually(t, "who is in the way is named", func() bool {
		list = ask()
		return len(list) != 1 || !list[0].Hidden
	})
	if len(list) != 1 || list[0].Kind != wire.Outside || list[0].PID != int32(c.cmd.Process.Pid) || list[0].Path != path ||
		list[0].UID != uint32(os.Geteuid()) || list[0].Command == "" || list[0].Reason != "has it open" {
		t.Errorf("in the way: %+v, want pid %d on %s", list, c.cmd.Process.Pid, path)
	}
}

// refusedBy asks for a lock that is refused with that code, and gives who is in the way.
func (p *peer) refusedBy(code wire.Code, m *wire.Lock) func() []wire.Blocker {
	return func() []wire.Blocker {
		p.t.Helper()
		e := p.refused(m)
		if e.Code != code {
			p.t.Fatalf("%+v, want %v", e, code)
		}
		return e.Blockers
	}
}

// inTheWayOf asks where a request stands.
func (p *peer) inTheWayOf(id uint32) func() []wire.Blocker {
	return func() []wire.Blocker { p.t.Helper(); return p.queued(p.send(&wire.Where{Target: id})).Blockers }
}

func rest(t testing.TB, g []wire.Grant, want wire.Rest) {
	t.Helper()
	for _, g := range g {
		if g.Rests != want {
			t.Errorf("rests on %v, want %v", g.Rests.Names(), want.Names())
		}
	}
}

func TestABundleThatSomebodyHasOpenIsWaitedForAndHeIsNamed(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	bundle, token := r.mac()
	mac := startChild(t, "reader", token)
	p, q := r.dial(), r.dial() // of version 1: nothing need be known of it
	opener(t, mac, bundle, p.refusedBy(wire.CodeBusy, try(attached(bundle))))
	opener(t, mac, bundle, p.refusedBy(wire.CodeTimeout, timed(attached(bundle), 1)))
	first := p.send(attached(bundle))
	p.queued(first)
	opener(t, mac, bundle, p.inTheWayOf(first))
	second := q.send(attached(bundle))
	q.queued(second)
	eventually(t, "he is listed", func() bool {
		return slices.ContainsFunc(p.rowsOf(p.send(&wire.List{All: true})), func(row wire.Row) bool {
			return row.Kind == wire.RowOutside && row.PID == int32(mac.cmd.Process.Pid) && row.Reason == "has it open"
		})
	})
	mac.end()
	g := grants(t, p.answer(first))
	rest(t, g, idleRests)
	r.checkReplay()
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	rest(t, grants(t, q.answer(second)), idleRests)
	for _, rec := range r.records(audit.EventGrant) {
		if rec.Path == bundle && !slices.Equal(rec.Rests, []string{"ofd", "flock", "idle"}) {
			t.Errorf("recorded as %v", rec.Rests)
		}
	}
	p.conn.Close()
	q.conn.Close()
	r.settles(base)
}

func TestAWaitForAnIdleFileEndsAtOnceWhenItsClientIsGone(t *testing.T) {
	r := newRig(t, nil)
	bundle, token := r.mac()
	mac := startChild(t, "reader", token)
	base := r.atRest() // with what the test has open for its child
	p, q := r.dial(), r.dial()
	id := p.send(attached(bundle))
	p.queued(id)
	q.queued(q.send(attached(bundle)))
	p.answer(p.send(&wire.Cancel{Target: id}))
	if e := asError(t, p.answer(id)); e.Code != wire.CodeCanceled {
		t.Errorf("%+v", e)
	}
	p.conn.Close()
	q.conn.Close()
	r.settles(base)
	mac.end()
}

// Claims of our own, whatever they ask for and wherever they stand, must not look like somebody who uses the file.
func TestThoseWhoWaitKeepNobodyFromAnIdleFile(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	bundle, token := r.mac()
	for _, path := range []string{r.file("plain"), bundle, token} {
		holder, asker, others := r.dial3(), r.dial3(), []*peer{r.dial3(), r.dial3(), r.dial3()}
		held := holder.granted(attached(path))
		waits := []uint32{others[0].send(attached(path))}
		others[0].queued(waits[0])
		asks := asker.send(idly(attached(path)))
		asker.queued(asks)
		waits = append(waits, others[1].send(idly(attached(path))))
		others[1].queued(waits[1])
		waits = append(waits, others[2].send(attached(path)))
		others[2].queued(waits[2])
		free := func(p *peer, g []wire.Grant) { p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})) }
		free(holder, held)
		free(others[0], grants(t, others[0].answer(waits[0])))
		g := grants(t, asker.answer(asks))
		rest(t, g, idleRests)
		free(asker, g)
		g = grants(t, others[1].answer(waits[1]))
		rest(t, g, idleRests)
		free(others[1], g)
		grants(t, others[2].answer(waits[2]))
		for _, p := range append(others, holder, asker) {
			p.conn.Close()
		}
		r.settles(base)
	}
}

// They come while the one who asks waits for somebody outside: then he does not look for them any more.
func TestThoseWhoComeLaterKeepNobodyFromAnIdleFile(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("plain")
	reads := startChild(t, "reader", path)
	asker, other, third := r.dial3(), r.dial3(), r.dial3()
	asks := asker.send(idly(attached(path)))
	asker.queued(asks)
	opener(t, reads, path, asker.inTheWayOf(asks))
	waits := other.send(attached(path))
	other.queued(waits)
	late := third.send(reader(attached(path)))
	third.queued(late)
	reads.end()
	rest(t, grants(t, asker.answer(asks)), idleRests)
	asker.conn.Close()
	rest(t, grants(t, other.answer(waits)), wire.RestOFD|wire.RestFlock)
	other.conn.Close()
	grants(t, third.answer(late))
}

func TestIdleIsForWhoAsksForItWhereItCanBeKnown(t *testing.T) {
	r := newRig(t, nil)
	path, program := r.file("file"), r.file("program")
	must(t, os.Chmod(program, 0o755))
	must(t, os.Mkdir(r.files+"/dir", 0o755))
	reads := startChild(t, "reader", path)
	p := r.dial3()
	opener(t, reads, path, p.refusedBy(wire.CodeBusy, idly(try(attached(path)))))
	rest(t, p.granted(attached(path)), wire.RestOFD|wire.RestFlock) // who does not ask
	rest(t, p.granted(idly(attached(program))), wire.RestFlock|wire.RestIdle)
	if e := p.refused(idly(attached(r.files + "/dir"))); e.Code != wire.CodeUnsupported || e.Path != r.files+"/dir" {
		t.Errorf("a directory: %+v", e)
	}
	reads.end()
	if e := p.refused(idly(attached(path))); e.Code != wire.CodeConversion || e.Path != path {
		t.Errorf("held without: %+v", e)
	}
	if e := p.refused(idly(attached(path, program))); e.Code != wire.CodeConversion || e.Path != path {
		t.Errorf("one of two held without: %+v", e)
	}
	for _, m := range []*wire.Lock{idly(attached(program)), attached(program)} {
		if g := p.granted(m); !g[0].Already || g[0].Rests != wire.RestFlock|wire.RestIdle {
			t.Errorf("again: %+v", g)
		}
	}
	if e := p.refused(idly(attached(path, r.file("third")))); e.Code != wire.CodeConversion || e.Path != path {
		t.Errorf("one of two held without, and one not held: %+v", e)
	}
	if rows := p.rowsOf(p.send(&wire.List{})); len(rows) != 2 {
		t.Errorf("a refusal has left something: %+v", rows)
	}
	r.checkReplay()
}

func TestASetIsGrantedWhenAllOfItIsIdle(t *testing.T) {
	r := newRig(t, nil)
	bundle, token := r.mac()
	a, b := r.file("a"), r.file("b")
	mac, other := startChild(t, "reader", token), startChild(t, "flock", b)
	p, bystander := r.dial3(), r.dial3()
	id := p.send(idly(attached(a, bundle, b)))
	p.queued(id)
	mac.end()
	if e := bystander.refused(try(attached(bundle))); e.Code != wire.CodeBusy {
		t.Errorf("%+v", e)
	}
	other.end()
	rest(t, grants(t, p.answer(id)), idleRests)
}

// Both are pending, since their owner has a file of theirs and each waits for another one. Then he lets go of it.
func TestClaimsThatTheirOwnerHasMadeShareAFileAreGrantedAllTheSame(t *testing.T) {
	for name, as := range map[string]func(*wire.Lock) *wire.Lock{"idle": idly, "plain": func(m *wire.Lock) *wire.Lock { return m }} {
		r := newRig(t, nil)
		a, b, c := r.file("a"), r.file("b"), r.file("c")
		first, second := startChild(t, "flock", b), startChild(t, "flock", c)
		p := r.dial3()
		held := p.granted(as(attached(a)))
		ids := []uint32{p.send(as(attached(a, b))), p.send(as(attached(a, c)))}
		for _, id := range ids {
			p.queued(id)
		}
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: held[0].ID}))
		first.end()
		second.end()
		for _, id := range ids {
			g := grants(t, p.answer(id))
			if name == "idle" {
				rest(t, g, idleRests)
			}
		}
		p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{a, b, c}}))
		r.checkReplay()
	}
}

// A hold that is let go leaves its copy in the keeper for as long as that takes to read of it; and a request that does not want to
// wait has its file open for a moment.
func TestWhatWeHaveOpenOurselvesForAMomentIsNotInUse(t *testing.T) {
	r, _ := withKeeper(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) { c.idlePatience = patience } // that 20 ms are enough is not for a busy machine to say
	})
	bundle, _ := r.mac()
	p, q := r.dial2(), r.dial2()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 300 {
			m := q.answer(q.send(try(attached(bundle))))
			if g, ok := m.(*wire.Granted); ok {
				q.answer(q.send(&wire.Unlock{By: wire.ByID, ID: g.Grants[0].ID}))
			} else if e := m.(*wire.Error); e.Code != wire.CodeBusy || len(e.Blockers) > 0 && (e.Blockers[0].Kind == wire.Outside) || strings.Contains(e.Text, "outside") || strings.Contains(e.Text, "lease") {
				t.Errorf("busy, and not by one of ours: %+v", e)
			}
		}
	}()
	for range 300 {
		g := p.granted(attached(bundle))
		rest(t, g, idleRests)
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	}
	<-over
	if waits := r.records(audit.EventWait); slices.ContainsFunc(waits, func(w audit.Record) bool { return w.Text != "" }) {
		t.Errorf("waits for programs outside are recorded: %+v", waits)
	}
}

func TestARestartKeepsWhatAHoldRestsOn(t *testing.T) {
	for _, how := range []string{"leave", "crash"} {
		r, s := withKeeper(t, nil)
		bundle, token := r.mac()
		file := r.file("file")
		p := r.dial3()
		p.granted(attached(bundle))
		p.granted(idly(detached(file)))
		p.granted(attached(r.file("plain")))
		mac := startChild(t, "reader", token) // which it is free to be by now
		other := startChild(t, "reader", file)
		if how == "leave" {
			s.leave()
		} else {
			s.crash()
		}
		s.back()
		if ids := p.resumed(r); len(ids) != 2 {
			t.Errorf("%s: resumed %v", how, ids)
		}
		for _, row := range p.rowsOf(p.send(&wire.List{})) {
			want := idleRests
			if row.Path == r.files+"/plain" {
				want = wire.RestOFD | wire.RestFlock
			}
			if row.Rests != want || row.Kind != wire.RowHolder {
				t.Errorf("%s: %+v", how, row)
			}
		}
		mac.end()
		other.end()
	}
}

// The keeper alone knows: the log is lost.
func TestWhatAHoldRestsOnIsInItsCopyToo(t *testing.T) {
	r, s := withKeeper(t, nil)
	bundle, _ := r.mac()
	p := r.dial3()
	p.granted(attached(bundle))
	s.leave()
	must(t, os.RemoveAll(r.dir+"/audit"))
	s.back()
	p.resumed(r)
	rows := p.rowsOf(p.send(&wire.List{}))
	if len(rows) != 1 || rows[0].Rests != idleRests {
		t.Errorf("%+v", rows)
	}
}

func TestOnlyWhatRestedOnIdleIsAskedAgain(t *testing.T) {
	both := []string{"ofd", "flock"}
	idle := append(slices.Clone(both), "idle")
	strict, lenient, never := flock.Want{Idle: true}, flock.Want{}, flock.Want{InUse: true}
	for _, c := range []struct {
		path, target string
		rests        []string
		want         flock.Want
	}{
		{"/f", "", idle, strict},
		{"/f", "", both, never},
		{"/b.sparsebundle", "/b.sparsebundle/token", idle, lenient},
		{"/b.sparsebundle", "/b.sparsebundle/token", both, never},
		{"/b.sparsebundle/token", "", idle, lenient},
		{"/b.sparsebundle/token", "", both, never},
	} {
		c.want.Mode, c.want.Hardlinks, c.want.Engines = flock.Exclusive, true, flock.OFD|flock.BSD
		if got := wantAgain(&audit.Record{Path: c.path, Target: c.target, Rests: c.rests, Mode: "exclusive"}); got != c.want {
			t.Errorf("%s on %v: got %+v, want %+v", c.path, c.rests, got, c.want)
		}
	}
}

// Whoever waits until a file is idle has it for himself, and a service may have it open for ever.
func TestABreakEndsTheWaitThatKeepsOthersFromAFileThatIsOpen(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	path, free := r.file("file"), r.file("free")
	reads := startChild(t, "reader", path)
	p, q := r.dial3(), r.dial3()
	asks := p.send(idly(attached(path, free)))
	p.queued(asks)
	waits := q.send(attached(path))
	q.queued(waits)
	rel, ok := q.answer(q.send(&wire.Break{By: wire.ByPath, Path: path, Reason: "nightly"})).(*wire.Released)
	if !ok || len(rel.IDs) != 1 {
		t.Fatalf("%+v", rel)
	}
	if e := asError(t, p.answer(asks)); e.Code != wire.CodeCanceled || !strings.Contains(e.Text, "break") {
		t.Errorf("%+v", e)
	}
	grants(t, q.answer(waits))
	recs := r.records(audit.EventCancel)
	if len(recs) != 1 || recs[0].Seq != rel.IDs[0] || recs[0].By == "" || recs[0].Reason != "nightly" || recs[0].Path != path {
		t.Errorf("recorded: %+v", recs)
	}
	r.checkReplay()
	reads.end()
	p.conn.Close()
	q.conn.Close()
	r.settles(base)
}

func TestABreakOfAHoldLetsThoseInWhoWaitedForItToBeIdle(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("file")
	p, q := r.dial3(), r.dial3()
	p.granted(attached(path))
	waits := q.send(idly(attached(path)))
	q.queued(waits)
	p.answer(p.send(&wire.Break{By: wire.ByPath, Path: path, Reason: "now"}))
	rest(t, grants(t, q.answer(waits)), idleRests)
}

func TestOnlyWhoMayBreakTheHoldEndsTheWaitForAnIdleFile(t *testing.T) {
	needRoot(t, "two users")
	r := newRig(t, twoUsers)
	a, b := r.dialAs(alice), r.dialAs(bob)
	for _, dir := range []string{"mine", "yours"} {
		must(t, os.Mkdir(r.files+"/"+dir, 0o755))
		bundle := r.bundle(dir+"/b.sparsebundle", "token")
		mac := startChild(t, "reader", bundle+"/token")
		waits := b.send(attached(bundle)) // which asks by itself
		b.queued(waits)
		got := a.answer(a.send(&wire.Break{By: wire.ByPath, Path: bundle, Reason: "x"}))
		if dir == "mine" {
			if e := asError(t, b.answer(waits)); e.Code != wire.CodeCanceled {
				t.Errorf("%+v", e)
			}
		} else if e := asError(t, got); e.Code != wire.CodeDenied {
			t.Errorf("%+v", e)
		}
		mac.end()
		if dir == "yours" {
			grants(t, b.answer(waits))
		}
	}
}

// It may be the holder's own job that has it open. A hold is lost to another lock, not to that.
func TestWhatIsClaimedAgainWhileItIsOpenIsHeldWithoutIdle(t *testing.T) {
	r := newRig(t, nil)
	bundle, token := r.mac()
	p := r.dial3()
	names := []string{bundle, r.file("used"), r.file("idle"), r.file("plain"), r.file("locked")}
	ids := map[string]uint64{}
	for _, path := range names {
		m := detached(path)
		if path != r.files+"/plain" {
			idly(m)
		}
		ids[path] = p.granted(m)[0].ID
	}
	var children []*child
	const both = wire.RestOFD | wire.RestFlock
	want := map[string]wire.Rest{bundle: both, r.files + "/used": both, r.files + "/idle": idleRests, r.files + "/plain": both}
	for range 2 { // then all is closed, which makes nothing rest on it again
		r.restart(func() {
			if children == nil {
				for _, path := range []string{token, r.files + "/used", r.files + "/plain"} {
					children = append(children, startChild(t, "reader", path))
				}
				children = append(children, startChild(t, "flock", r.files+"/locked"))
				return
			}
			for _, c := range children {
				c.end()
			}
		})
		p = r.dial3()
		if lost := p.lostRows(); !slices.Equal(lost, []uint64{ids[r.files+"/locked"]}) {
			t.Errorf("lost are %v of %v", lost, ids)
		}
		held := map[string]wire.Rest{}
		for _, row := range p.rowsOf(p.send(&wire.List{})) {
			if row.Kind == wire.RowHolder && row.ID == ids[row.Path] {
				held[row.Path] = row.Rests
			}
		}
		if !maps.Equal(held, want) {
			t.Errorf("held are %v, want %v", held, want)
		}
	}
	said := 0
	for _, rec := range r.records(audit.EventResume) {
		if rec.Text == againInUse {
			said++
		}
	}
	if said != 2 {
		t.Errorf("%d records say that a hold rests on idle no more, want 2", said)
	}
}

// The wait is over within 50 ms of the last close; by how much is not measured here but in package flock, without the net. This is
// the whole way, which a machine that is busy may be slower to go, but not for a minute each time.
func TestTheLastCloseIsSoonNoticed(t *testing.T) {
	r := newRig(t, nil)
	bundle, token := r.mac()
	best := time.Hour
	for began := time.Now(); best > 50*time.Millisecond && time.Since(began) < patience; {
		mac := startChild(t, "reader", token)
		p := r.dial()
		id := p.send(attached(bundle))
		p.queued(id)
		mac.end()
		closed := time.Now()
		grants(t, p.answer(id))
		best = min(best, time.Since(closed))
		p.conn.Close()
	}
	if best > 50*time.Millisecond {
		t.Errorf("%v at best", best)
	}
}
