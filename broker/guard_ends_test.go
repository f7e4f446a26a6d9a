package broker

import (
	"sync/atomic"
	"testing"
	"time"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// mocked is a rig whose guard is a puppet.
func mocked(t *testing.T, change func(*rig), answer func(kind byte) bool) *rig {
	t.Helper()
	dial := puppet(t, answer)
	return newRig(t, func(r *rig) {
		if change != nil {
			change(r)
		}
		policy, alter := r.policy, r.alter
		r.policy = func() (*authz.Policy, error) {
			p, err := policy()
			if err == nil {
				p.Guard = []string{"/usr/sbin/smbd"}
			}
			return p, err
		}
		r.alter = func(l *audit.Config, c *Config) {
			if alter != nil {
				alter(l, c)
			}
			c.Guard = dial
		}
	})
}

func TestAGuardThatEndsWhileItIsToldOfHoldsIsRecordedOnce(t *testing.T) {
	f := newFenced(t, nil)
	p := f.dial()
	for _, name := range []string{"a.sparsebundle", "b.sparsebundle", "c.sparsebundle"} {
		rest(t, p.granted(detached(f.bundle(name, "token", "bands/"))), guardedRests)
	}
	f.fell()
	f.awaitState("down")
	arrived, goOn := f.pauseWards()
	f.raise()
	<-arrived
	ends := func() (n int) { // not those that say why there is no other, which come after guardPatience
		for _, rec := range f.guardRecords(guardGone) {
			if rec.Text == "" {
				n++
			}
		}
		return n
	}
	before := ends()
	f.fell()
	goOn()
	f.awaitState("down")
	if n := ends() - before; n != 1 {
		t.Errorf("%d records of the end of one guard", n)
	}
	if found := f.guardRecords(guardUnguarded); len(found) != 0 {
		t.Errorf("%d records more: %+v", len(found), found)
	}
}

// Whatever the cause, a claim of which each guard ends must not wait for ever for one that does not, nor the log be filled.
func TestAClaimOfWhichEveryGuardEndsIsGranted(t *testing.T) {
	var asked atomic.Int32
	var broker atomic.Pointer[Broker]
	r := mocked(t, nil, func(kind byte) bool {
		if b := broker.Load(); kind == asksGuard && b != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.table.allHolds()) == 0 { // else of the hold: each next guard is told of it, whenever the test comes to look
				asked.Add(1)
			}
		}
		return kind != asksGuard
	})
	broker.Store(r.b)
	bundle, _ := r.mac()
	p := r.dial()
	rest(t, p.granted(try(attached(bundle))), idleRests)
	if n := asked.Load(); n == 0 || n > 2*maxGuardsLost {
		t.Errorf("%d guards were told of it", n)
	}
}

func TestAGuardThatEndsAgainAndAgainIsConnectedToSeldom(t *testing.T) {
	dialed := make(chan time.Time, 11)
	r := mocked(t, nil, func(kind byte) bool {
		if kind == asksDeny {
			select {
			case dialed <- time.Now(): // before the pause that follows this guard's end
			default:
			}
		}
		return kind != asksGuard
	})
	bundle, _ := r.mac()
	p := r.dial()
	p.granted(attached(bundle)) // of which each next guard is told
	eventually(t, "the next guards are found", func() bool { return len(dialed) == cap(dialed) })
	first, last := <-dialed, time.Time{}
	for range cap(dialed) - 1 {
		last = <-dialed
	}
	if took := last.Sub(first); took < time.Second { // the pauses between are 1 ms, 2 ms, 4 ms, …
		t.Errorf("%d connections within %v", cap(dialed), took)
	}
}

// The guard is told of one of two bundles when the claim ends.
func TestWhatAClaimHadGuardedIsLiftedWhenItEnds(t *testing.T) {
	var told, lifted atomic.Int32
	second, goOn := make(chan struct{}), make(chan struct{})
	r := mocked(t, nil, func(kind byte) bool {
		switch kind {
		case asksGuard:
			if told.Add(1) == 2 {
				close(second)
				<-goOn
			}
		case asksLift:
			lifted.Add(1)
		}
		return true
	})
	eventually(t, "the guard is there", func() bool { s, _ := r.b.guardState(); return s == wire.GuardOn })
	p := r.dial()
	id := p.send(attached(r.bundle("a.sparsebundle", "token", "bands/"), r.bundle("b.sparsebundle", "token", "bands/")))
	<-second
	p.answer(p.send(&wire.Cancel{Target: id}))
	close(goOn)
	if e := asError(t, p.answer(id)); e.Code != wire.CodeCanceled {
		t.Errorf("%+v", e)
	}
	if n := lifted.Load(); n != 2 {
		t.Errorf("of two bundles %d were lifted", n)
	}
}
