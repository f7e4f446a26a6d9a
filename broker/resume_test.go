package broker

import (
	"os"
	"slices"
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

// ends are the two ways in which a broker goes away that loses nothing.
var ends = map[string]func(*shelf){"handed over": (*shelf).leave, "crashed": (*shelf).crash}

func TestHoldsAndPlacesOutliveTheBroker(t *testing.T) {
	for how, end := range ends {
		t.Run(how, func(t *testing.T) {
			r, s := withKeeper(t, nil)
			a, b, c := r.file("a"), r.file("b"), r.file("c")
			holder, first, second, owner := r.dial2(), r.dial2(), r.dial2(), r.dial2()
			mine := holder.granted(attached(a, b))
			theirs := owner.granted(detached(c))
			shared := owner.granted(reader(attached(r.file("d"))))
			ask := attached(a)
			one := first.send(ask)
			first.queued(one)
			two := second.send(detached(a))
			second.queued(two)
			end(s)
			holder.cut()
			for _, path := range []string{a, b, c, r.files + "/d"} {
				if isFree(t, path) {
					t.Errorf("%s is free while no broker runs", path)
				}
			}
			s.back()
			if ids := holder.resumed(r); !slices.Equal(ids, sortedIDs(mine[0].ID, mine[1].ID)) {
				t.Errorf("resumed with %v, want %v", ids, mine)
			}
			// Somebody new stands behind those who waited before, though they have not come back yet.
			third := r.dial2()
			three := third.send(attached(a))
			if q := third.queued(three); q.Position != 3 {
				t.Errorf("a newcomer's place is %d, want 3", q.Position)
			}
			holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: mine[0].ID}))
			if ids := second.resumed(r); len(ids) != 0 {
				t.Errorf("a waiter holds %v", ids)
			}
			second.repeat(two, detached(a))
			if q := second.queued(two); q.Position != 2 {
				t.Errorf("the second's place is %d", q.Position)
			}
			first.resumed(r)
			first.repeat(one, ask)
			got := grants(t, first.answer(one))
			if got[0].ID <= mine[0].ID || got[0].Already {
				t.Errorf("%+v", got)
			}
			first.answer(first.send(&wire.Unlock{By: wire.ByID, ID: got[0].ID}))
			last := grants(t, second.answer(two))
			second.answer(second.send(&wire.Unlock{By: wire.ByID, ID: last[0].ID}))
			grants(t, third.answer(three))
			if ids := owner.resumed(r); !slices.Equal(ids, []uint64{shared[0].ID}) {
				t.Errorf("%v, want the shared one alone: a detached hold is no session's", ids)
			}
			if g := owner.granted(detached(c)); !g[0].Already || g[0].ID != theirs[0].ID {
				t.Errorf("%+v, want %+v again", g, theirs)
			}
			r.checkReplay()
		})
	}
}

func TestALockSentAgainHasTheAnswerThatGotLost(t *testing.T) {
	for how, end := range ends {
		t.Run(how, func(t *testing.T) {
			r, s := withKeeper(t, nil)
			p := r.dial2()
			set, one := attached(r.file("a"), r.file("b")), detached(r.file("c"))
			x := p.send(set)
			want := grants(t, p.answer(x))
			y := p.send(one)
			wantOne := grants(t, p.answer(y))
			end(s)
			s.back()
			p.resumed(r)
			p.repeat(x, set)
			if got := grants(t, p.answer(x)); !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			p.repeat(y, one)
			if got := grants(t, p.answer(y)); !slices.Equal(got, wantOne) {
				t.Errorf("got %+v, want %+v", got, wantOne)
			}
			// Another request of the same owner is another.
			if g := p.granted(attached(r.files + "/a")); !g[0].Already {
				t.Errorf("%+v", g)
			}
		})
	}
}

func TestADetachedLockAloneHasTheAnswerThatGotLost(t *testing.T) {
	for _, both := range []bool{false, true} {
		r, s := withKeeper(t, nil)
		p := r.dial2()
		m := detached(r.file("a"))
		id := p.send(m)
		want := grants(t, p.answer(id))
		s.crash()
		if both {
			s.end()
			s.start()
		}
		s.back()
		if ids := p.resumed(r); len(ids) != 0 {
			t.Errorf("%v: a detached hold is no session's", ids)
		}
		p.repeat(id, m)
		if got := grants(t, p.answer(id)); !slices.Equal(got, want) {
			t.Errorf("both dead: %v: got %+v, want %+v", both, got, want)
		}
		r.halt()
	}
}

func TestNobodyElseTakesASessionOver(t *testing.T) {
	r, s := withKeeper(t, func(r *rig) {
		r.policy = rules(r.files, "allow = [\"FILES\"]\n[[rule]]\nname = \"all\"\nusers = [\"*\"]\npaths = [\"FILES\"]\ncan = [\"lock\"]\n")
	})
	p := r.dial2()
	held := p.granted(attached(r.file("a")))
	s.crash()
	s.back()
	refused := func(what string, m wire.Message) {
		t.Helper()
		if e, ok := m.(*wire.Error); !ok || e.Code != wire.CodeLost {
			t.Errorf("%s: %+v", what, m)
		}
	}
	other := r.dial2()
	refused("a session that nobody has", other.answer(other.send(&wire.Resume{Session: p.session + 1})))
	refused("one's own", other.answer(other.send(&wire.Resume{Session: other.session})))
	startChild(t, "usurper", r.socket, uintText(p.session))
	other.granted(attached(r.file("b")))
	if e := other.refused(&wire.Resume{Session: p.session}); e.Code != wire.CodeInvalid {
		t.Errorf("after a lock: %+v", e)
	}
	if ids := p.resumed(r); len(ids) != 1 || ids[0] != held[0].ID {
		t.Errorf("%v", ids)
	}
	refused("a session that is back", p.again(r))
	if os.Geteuid() == 0 {
		s.crash()
		s.back()
		q := r.dialMuteAs(alice)
		q.answer(q.send(&wire.Hello{Min: 2, Max: 2}))
		refused("another uid of the same process", q.answer(q.send(&wire.Resume{Session: p.session})))
	}
}

func TestAVersion1ConnectionCannotResume(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial()
	m := attached(r.file("a"))
	m.Grace = time.Second
	p.granted(m)
	q := r.dial()
	without := r.file("b")
	q.granted(attached(without))
	s.crash()
	s.back()
	// Its client learns by the end of the connection, so it has its grace and no more.
	eventually(t, "the hold without a grace ends", func() bool { return isFree(t, without) })
	eventually(t, "the grace is over", func() bool { return isFree(t, r.files+"/a") })
	x := r.dial()
	if e, ok := x.answer(x.send(&wire.Resume{Session: p.session})).(*wire.Error); !ok || e.Code != wire.CodeInvalid {
		t.Errorf("%+v", e)
	}
	r.checkReplay()
}

func TestWhoDoesNotComeBackLosesWhatHeHadWhenThePatienceIsOver(t *testing.T) {
	var clock still
	r, s := withKeeper(t, clock.drive)
	p, q := r.dial2(), r.dial2()
	a := r.file("a")
	p.granted(attached(a))
	waits := attached(a)
	id := q.send(waits)
	q.queued(id)
	s.crash()
	s.back()
	next := r.dial2()
	n := next.send(attached(a))
	if got := next.queued(n); got.Position != 2 {
		t.Errorf("%+v", got)
	}
	clock.forward(r, defaultPatience-1)
	r.b.endDue(t.Context())
	if isFree(t, a) {
		t.Fatal("let go before its time")
	}
	clock.forward(r, 2)
	grants(t, next.answer(n)) // who waited before is gone as well
	if e, ok := q.again(r).(*wire.Error); !ok || e.Code != wire.CodeLost {
		t.Errorf("%+v", e)
	}
	r.checkReplay()
}

func TestAProcessThatDiedMeanwhileHoldsNothingAfterTheRestart(t *testing.T) {
	r, s := withKeeper(t, nil)
	a := r.file("a")
	dying := startChild(t, "keen", r.socket, a)
	late := startChild(t, "keen", r.socket, r.file("b"))
	s.crash()
	dying.end()
	s.back()
	eventually(t, "its file is free", func() bool { return isFree(t, a) })
	if isFree(t, r.files+"/b") {
		t.Error("the other's is free too")
	}
	late.end() // while it is away
	eventually(t, "the other's is free", func() bool { return isFree(t, r.files+"/b") })
	eventually(t, "two deaths are recorded", func() bool { return len(r.records(audit.EventDeath)) == 2 })
	r.checkReplay()
}

func TestAHoldBrokenWhileItsClientIsAwayIsToldWhenItComesBack(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	m := attached(r.file("a"))
	m.Grace = 30 * time.Second
	gone, graced := p.granted(attached(r.file("b"))), p.granted(m)
	s.crash()
	s.back()
	root := r.dial2()
	for _, id := range []uint64{gone[0].ID, graced[0].ID} {
		root.answer(root.send(&wire.Break{By: wire.ByID, ID: id, Reason: "x"}))
	}
	s.crash() // and the grace outlives a restart too
	s.back()
	if ids := p.resumed(r); !slices.Equal(ids, []uint64{graced[0].ID}) {
		t.Errorf("%v", ids)
	}
	if l := p.lost(); l.ID != graced[0].ID || l.Grace <= 0 || l.Grace > 30*time.Second {
		t.Errorf("%+v", l)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: graced[0].ID}))
	if !isFree(t, r.files+"/a") {
		t.Error("still locked")
	}
	r.checkReplay()
}

func TestATimedWaitEndsWhenItWouldHaveWithoutTheRestart(t *testing.T) {
	var clock still
	r, s := withKeeper(t, clock.drive)
	p, q := r.dial2(), r.dial2()
	a := r.file("a")
	p.granted(attached(a))
	id := q.send(timed(attached(a), time.Minute))
	q.queued(id)
	clock.forward(r, 20*time.Second)
	s.crash()
	s.back()
	p.resumed(r)
	q.resumed(r)
	q.repeat(id, timed(attached(a), 40*time.Second)) // what is left of it, as the client sees it
	q.queued(id)
	clock.forward(r, 40*time.Second-1)
	r.b.endDue(t.Context())
	if q.isAnswered(id) {
		t.Error("timed out before its time")
	}
	clock.forward(r, 2)
	if e := asError(t, q.answer(id)); e.Code != wire.CodeTimeout {
		t.Errorf("%+v", e)
	}
	r.checkReplay()
}

func TestALockWhosePolicyIsGoneDoesNotKeepItsPlace(t *testing.T) {
	var c changing
	r, s := withKeeper(t, c.drive(policyFor("", "/a", "/b")))
	r.dirs("/a", "/b")
	path := r.file("b/x")
	p, q := r.dial2(), r.dial2()
	held := p.granted(attached(path))
	ask := attached(path)
	id := q.send(ask)
	q.queued(id)
	s.crash()
	text := policyFor("[[deny]]\nname = \"b is closed\"\nusers = [\"*\"]\npaths = [\"FILES/b\"]\n", "/a", "/b")
	c.text.Store(&text)
	s.back()
	if ids := p.resumed(r); !slices.Equal(ids, []uint64{held[0].ID}) {
		t.Errorf("%v: a hold stays until it ends", ids)
	}
	q.resumed(r)
	q.repeat(id, ask)
	if e := asError(t, q.answer(id)); e.Code != wire.CodeDenied {
		t.Errorf("%+v", e)
	}
	r.b.mu.Lock()
	n := len(r.b.table.allWaiting())
	r.b.mu.Unlock()
	if n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// A lockerd that is killed while it grants a set leaves some of it. If the set is refused when it is asked for again, nothing of it is held.
func TestPartsOfASetThatIsRefusedAreGivenBack(t *testing.T) {
	r, s := withKeeper(t, nil)
	a, b := r.file("a"), r.file("b")
	p := r.dial2()
	id := p.send(attached(a))
	grants(t, p.answer(id))
	s.crash()
	s.back()
	p.resumed(r)
	q := r.dial2()
	q.granted(attached(b))
	p.repeat(id, try(attached(a, b))) // as if a had been its part, and the rest had not come to it
	if e := asError(t, p.answer(id)); e.Code != wire.CodeBusy {
		t.Fatalf("%+v", e)
	}
	q.granted(try(attached(a)))
	r.checkReplay()
}
