package broker

import (
	"os"
	"testing"
	"time"
)

// A bundle is looked through before the guard is told and again afterwards. The second look is not to wait for its uid's pause: the locks
// would be let go of for it, and with them the guard, and so on for ever.
func TestALargeBundleIsGrantedWhereTheRuleAsksForQuietAndThereIsAGuard(t *testing.T) {
	var h hour
	h.ahead.Store(int64(time.Hour))
	f := newFenced(t, hushed(quietRule, &h))
	f.mu.Lock()
	f.before = func() { f.b.looks.took(1000, f.b.boot(), time.Hour) } // it is so large that a look costs as much
	f.mu.Unlock()
	bundle, _ := f.mac()
	rest(t, f.dial3().granted(try(attached(bundle))), guardedRests)
}

// Else its owner could have all his bundles looked through at once, by letting go of them at once.
func TestWhoWaitsForAFileAgainHasNoTurnAheadOfOthersLeft(t *testing.T) {
	var h hour
	r := newRig(t, hushed(second(quietRule), &h))
	bundle, token := r.mac()
	h.at.Store(write(t, bundle).UnixNano()) // until somebody has it open
	p := r.dial3()
	id := p.send(attached(bundle))
	p.queued(id)
	mac, err := os.Open(token)
	must(t, err)
	h.at.Store(0)
	heard := func() (outside, heard bool) {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		for _, s := range r.b.sessions {
			if q := s.requests[id]; q != nil && q.isOutside {
				return true, q.heard
			}
		}
		return false, false
	}
	eventually(t, "it is quiet, and in use", func() bool { outside, _ := heard(); return outside })
	if _, kept := heard(); kept {
		t.Error("it goes ahead of others whenever the file is free")
	}
	must(t, mac.Close())
	grants(t, p.answer(id))
}
