package broker

import (
	"testing"
	"time"

	"locker/wire"
)

// lapsed gives what the list says of a hold.
func (p *peer) lapsed(id uint64) (lapsed bool, rests wire.Rest) {
	p.t.Helper()
	rows, altered := p.listed(true)
	for _, row := range rows {
		if row.ID == id {
			rests = row.Rests
		}
	}
	for _, a := range altered {
		if a.Count != 0 || a.Missed || a.Unwatched || !a.At.IsZero() {
			p.t.Errorf("listed %+v", a)
		}
		lapsed = lapsed || a.ID == id && a.Lapsed
	}
	return lapsed, rests
}

// guardedAgain waits until a hold rests on the guard, and reports whether it has lapsed.
func (p *peer) guardedAgain(id uint64) (lapsed bool) {
	p.t.Helper()
	eventually(p.t, "it is guarded again", func() bool {
		was, rests := p.lapsed(id)
		lapsed = was
		return rests == guardedRests
	})
	return lapsed
}

// Whoever was refused may have opened files meanwhile: that the guard is back does not undo it.
func TestThatTheGuardWasAwayIsToldToTheHolderOnceAndListedAsLongAsTheHoldLasts(t *testing.T) {
	f := newFenced(t, nil)
	bundle, _ := f.mac()
	plain := f.file("beside")
	p := f.dial4()
	g := p.granted(attached(bundle, plain))
	rest(t, g[:1], guardedRests)
	if lapsed, _ := p.lapsed(g[0].ID); lapsed {
		t.Error("it has lapsed before the guard was away")
	}
	for range 2 {
		f.fell()
		f.awaitState("down")
		if lapsed, rests := p.lapsed(g[0].ID); !lapsed || rests != idleRests {
			t.Errorf("while there is no guard: lapsed %v, rests on %v", lapsed, rests.Names())
		}
		f.raise()
		if !p.guardedAgain(g[0].ID) {
			t.Error("that the guard was away is not listed")
		}
	}
	if a := p.altered(); a.ID != g[0].ID || !a.Lapsed || a.Count != 0 {
		t.Errorf("told %+v", a)
	}
	if lapsed, _ := p.lapsed(g[1].ID); lapsed {
		t.Error("so has a file that is never guarded")
	}
	for _, k := range p.kept {
		t.Errorf("told once more: %+v", k.m)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{bundle}}))
	g = p.granted(attached(bundle))
	if lapsed, _ := p.lapsed(g[0].ID); lapsed {
		t.Error("the next hold has it still")
	}
}

func TestAHoldThatWasGrantedWithoutAGuardHasLapsedWhenOneComes(t *testing.T) {
	r, come := missing(t, yes(), guardRule)
	r.wentAt(time.Hour) // it is waited for no longer
	bundle, _ := r.mac()
	p := r.dial4()
	g := p.granted(attached(bundle))
	if lapsed, rests := p.lapsed(g[0].ID); lapsed || rests != idleRests {
		t.Errorf("without a guard: lapsed %v, rests on %v", lapsed, rests.Names())
	}
	come()
	if !p.guardedAgain(g[0].ID) {
		t.Error("it passes for one that was always guarded")
	}
}

func TestAHoldOfBeforeARestartHasLapsed(t *testing.T) {
	for _, how := range []string{"claimed again", "kept", "kept by a crash"} {
		f, s := newKeptFenced(t)
		bundle, _ := f.mac()
		p := f.dial4()
		g := p.granted(detached(bundle))
		switch how {
		case "claimed again":
			f.restart(f.fell)
		case "kept":
			s.leave()
			f.fell()
			s.back()
		default:
			s.crash()
			f.fell()
			s.back()
		}
		p = f.dial4()
		if lapsed, rests := p.lapsed(g[0].ID); !lapsed || rests != idleRests {
			t.Errorf("%s, without a guard: lapsed %v, rests on %v", how, lapsed, rests.Names())
		}
		f.raise()
		if !p.guardedAgain(g[0].ID) {
			t.Errorf("%s, with the next guard: it has not lapsed", how)
		}
		g = p.granted(detached(f.bundle("other.sparsebundle", "token", "bands/")))
		if lapsed, _ := p.lapsed(g[0].ID); lapsed {
			t.Errorf("%s: so has a hold of afterwards", how)
		}
	}
}

// Whichever comes first: that the guard is there again, or that the client is.
func TestWhoComesBackAfterARestartIsToldThatTheGuardWasAway(t *testing.T) {
	for _, first := range []string{"the guard", "the client"} {
		f, s := newKeptFenced(t)
		bundle, _ := f.mac()
		p, other := f.dial4(), f.file("beside")
		g := p.granted(attached(bundle, other))
		s.leave()
		f.fell()
		if first == "the guard" {
			f.raise()
		}
		s.back()
		if first == "the guard" {
			f.dial4().guardedAgain(g[0].ID)
		}
		if _, ok := p.againAt(f.rig, 4).(*wire.Resumed); !ok {
			t.Fatal("not resumed")
		}
		if a := p.altered(); a.ID != g[0].ID || !a.Lapsed || a.Count != 0 {
			t.Errorf("%s first: told %+v", first, a)
		}
		if first == "the client" {
			f.raise()
			if !p.guardedAgain(g[0].ID) {
				t.Error("it has not lapsed")
			}
		}
		for _, k := range p.kept {
			t.Errorf("%s first: told once more: %+v", first, k.m)
		}
	}
}
