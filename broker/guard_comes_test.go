package broker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"locker/audit"
	"locker/authz"
	"locker/guard"
	"locker/wire"
)

// missing is a rig whose policy asks for a guard, if wanted says so, and that has none before come is called. Its clients are uid 1000.
func missing(t *testing.T, wanted *atomic.Bool, text string) (r *rig, come func()) {
	t.Helper()
	return missingThen(t, wanted, text, guardPatience, func(byte) bool { return true })
}

// missingThen is missing with a guard that answers so, and is waited for so long.
func missingThen(t *testing.T, wanted *atomic.Bool, text string, waits time.Duration, answer func(kind byte) bool) (r *rig, come func()) {
	t.Helper()
	var here atomic.Bool
	dial := puppet(t, answer)
	r = newRig(t, func(r *rig) {
		hushed(text, new(hour))(r)
		policy, alter := r.policy, r.alter
		r.policy = func() (*authz.Policy, error) {
			p, err := policy()
			if err == nil && wanted.Load() {
				p.Guard = []string{"/usr/sbin/smbd"}
			}
			return p, err
		}
		r.alter = func(l *audit.Config, c *Config) {
			alter(l, c)
			c.times.guard = waits
			c.Guard = func(ctx context.Context) (*guard.Conn, error) {
				if !here.Load() {
					return nil, errors.New("it is not here yet")
				}
				return dial(ctx)
			}
		}
	})
	return r, func() {
		here.Store(true)
		r.b.guardsAnew()
	}
}

const guardRule = "allow = [\"FILES\"]\n[[rule]]\nusers = [\"*\"]\npaths = [\"FILES\"]\ncan = [\"lock\"]\n"

// wentAt has the last guard have gone so long ago; less than 0: it will go.
func (r *rig) wentAt(ago time.Duration) {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.guarding.since = r.b.boot() - ago
}

// untilItAwaitsTheGuard returns when the only client's request does.
func (r *rig) untilItAwaitsTheGuard(id uint32) {
	r.t.Helper()
	eventually(r.t, "it waits for the guard", func() bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		for _, s := range r.b.sessions {
			if q := s.requests[id]; q != nil {
				return q.awaitsGuard
			}
		}
		return false
	})
}

func yes() *atomic.Bool {
	b := new(atomic.Bool)
	b.Store(true)
	return b
}

func TestWhoSetsATimeWaitsForAGuardNoLongerThanThat(t *testing.T) {
	r, come := missing(t, yes(), guardRule)
	r.wentAt(-time.Hour) // whoever waits longer waits for so long
	bundle, _ := r.mac()
	p := r.dial()
	for _, d := range []time.Duration{0, 20 * time.Millisecond} {
		e := p.refused(timed(attached(bundle), d))
		if e.Code != wire.CodeTimeout || e.Text != "it was free, but there was no guard yet to keep file servers from it when the time to wait was over" || len(e.Blockers) > 0 {
			t.Errorf("after %v: %+v", d, e)
		}
	}
	if n := len(r.records(audit.EventWait)); n != 2 {
		t.Errorf("%d records of waits", n)
	}
	if n := len(r.records(audit.EventTimeout)); n != 2 {
		t.Errorf("%d records of timeouts", n)
	}
	id := p.send(timed(attached(bundle), time.Hour))
	come()
	rest(t, grants(t, p.answer(id)), guardedRests)
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{bundle}}))
	// Where there is one it takes what it takes: that is no waiting.
	rest(t, p.granted(timed(attached(bundle), 0)), guardedRests)
}

// What he waits for then is not others, and his claim would not be the sooner over.
func TestOnceTheGuardIsThereTheTimeToWaitForItIsOver(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	r, come := missingThen(t, yes(), guardRule, patience, func(kind byte) bool {
		if kind == asksGuard {
			close(asked)
			<-goOn
		}
		return true
	})
	r.wentAt(-time.Hour)
	bundle, _ := r.mac()
	p := r.dial()
	id := p.send(timed(attached(bundle), time.Hour))
	r.untilItAwaitsTheGuard(id)
	deadlines := func() int {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return len(r.b.deadlines.q)
	}
	if n := deadlines(); n != 1 {
		t.Errorf("%d deadlines while it is waited for", n)
	}
	come()
	<-asked
	if n := deadlines(); n != 0 {
		t.Errorf("%d deadlines while it is told", n)
	}
	close(goOn)
	rest(t, grants(t, p.answer(id)), guardedRests)
}

func TestWhomThePolicyLetsWaitSoLongWaitsForAGuardNoLonger(t *testing.T) {
	r, _ := missing(t, yes(), strings.Replace(guardRule, "can", "max_wait = \"1s\"\ncan", 1))
	r.wentAt(-time.Hour)
	bundle, _ := r.mac()
	if e := r.dial().refused(attached(bundle)); e.Code != wire.CodeTimeout {
		t.Errorf("%+v", e)
	}
}

func TestWhoDoesNotWaitForOthersWaitsForTheGuardThatIsComing(t *testing.T) {
	r, come := missing(t, yes(), guardRule)
	r.wentAt(-time.Hour)
	bundle, _ := r.mac()
	p := r.dial()
	id := p.send(try(attached(bundle)))
	r.untilItAwaitsTheGuard(id)
	come()
	rest(t, grants(t, p.answer(id)), guardedRests)
	// It is not coming any more when it has not come for long.
	other, _ := missing(t, yes(), guardRule)
	other.wentAt(time.Hour)
	bundle, _ = other.mac()
	rest(t, other.dial().granted(try(attached(bundle))), idleRests)
}

// Else whoever is quick would hold a bundle without the guard that the reload brings.
func TestAClaimRightAfterAReloadThatBringsTheGuardWaitsForIt(t *testing.T) {
	var wanted atomic.Bool
	r, _ := missing(t, &wanted, guardRule)
	r.wentAt(time.Hour)
	bundle, _ := r.mac()
	wanted.Store(true)
	began := time.Now()
	if _, err := r.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := r.dial()
	rest(t, p.granted(attached(bundle)), idleRests) // it does not come
	if took := time.Since(began); took < guardPatience {
		t.Errorf("granted without a guard %v after the policy began to ask for one", took)
	}
	// A reload that leaves it as it is gives nobody cause to wait anew.
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{bundle}}))
	if _, err := r.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.b.mu.Lock()
	since := r.b.boot() - r.b.guarding.since
	r.b.mu.Unlock()
	if since < guardPatience {
		t.Errorf("after a reload that changes nothing it is waited for as of %v ago", since)
	}
}

func TestWhoWaitsForTheGuardGoesOnAtOnceAfterAReloadThatTakesItAway(t *testing.T) {
	wanted := yes()
	r, _ := missing(t, wanted, guardRule)
	r.wentAt(-time.Hour)
	bundle, _ := r.mac()
	p := r.dial()
	id := p.send(timed(attached(bundle), time.Hour))
	r.untilItAwaitsTheGuard(id)
	wanted.Store(false)
	if _, err := r.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest(t, grants(t, p.answer(id)), idleRests)
}
