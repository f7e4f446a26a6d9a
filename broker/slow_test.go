package broker

import (
	"context"
	"testing"

	"locker/flock"
	"locker/wire"
)

// onNetwork is a claim of a uid, with a file where a call may hang.
func (r *rig) onNetwork(a *account) *request {
	return &request{s: &session{b: r.b, acct: a}, msg: &wire.Lock{}, regime: r.b.rules.Load(), files: []*flock.File{nil, {Network: true}}}
}

func TestWorkThatMayHangHasASlotUntilNothingMoreFollows(t *testing.T) {
	r := newRig(t, nil)
	b := r.b
	a := newAccount(65533, b.limits())
	q := r.onNetwork(a)
	used := func() [2]int { return [2]int{a.slow.inUse(), b.gates.slow.inUse()} }
	begun, goOn := make(chan [2]int), make(chan struct{})
	b.apart(t.Context(), q, func() []event {
		begun <- used()
		<-goOn
		return nil
	})
	if n := <-begun; n != [2]int{1, 1} {
		t.Errorf("while it works %v slots are taken", n)
	}
	a.slow.set(1)
	b.apart(t.Context(), q, func() []event {
		begun <- used()
		return nil
	})
	tried := make(chan bool)
	ended, cancel := context.WithCancel(t.Context())
	go func() { tried <- b.tryInSlot(ended, q, func() bool { panic("tried without a slot") }) }()
	local := &request{s: q.s, msg: q.msg, regime: q.regime, files: []*flock.File{{}}}
	b.inSlot(t.Context(), local, func() []event { // does not wait for what hangs
		if n := used(); n != [2]int{1, 1} {
			t.Errorf("beside a local file %v slots are taken", n)
		}
		return nil
	})
	if !b.tryInSlot(t.Context(), local, func() bool { return true }) {
		t.Error("a local file is not tried")
	}
	select {
	case n := <-begun:
		t.Errorf("the second works beside the first, with %v slots", n)
	default:
	}
	cancel()
	if <-tried {
		t.Error("it was ended before there was a slot, and goes on")
	}
	close(goOn)
	if n := <-begun; n != [2]int{1, 1} {
		t.Errorf("while the second works %v slots are taken", n)
	}
	eventually(t, "the slots are given back", func() bool { return used() == [2]int{} })
	if !b.tryInSlot(t.Context(), q, func() bool { return used() == [2]int{1, 1} }) {
		t.Error("a try takes no slot")
	}
	if n := used(); n != [2]int{} {
		t.Errorf("after a try %v slots are taken", n)
	}
}

// Who hangs in as many claims as he may still gets rid of what he holds, though so many ends at a time hang at most; his account, which was gone,
// goes with the last.
func TestEndsThatHangAreBoundedApartFromClaims(t *testing.T) {
	r := newRig(t, nil)
	b := r.b
	b.gates.slow.set(0)
	begun, goOn := make(chan int), make(chan struct{})
	const holds = slowUID + 1
	for range holds {
		b.endApart(t.Context(), 65533, func() {
			b.mu.Lock()
			a := b.accounts[65533]
			b.mu.Unlock()
			begun <- a.ends.inUse()
			<-goOn
		})
	}
	for range slowUID {
		<-begun
	}
	select {
	case <-begun:
		t.Errorf("more than %d hang", slowUID)
	default:
	}
	close(goOn)
	<-begun
	eventually(t, "the account is forgotten", func() bool { return r.use().accounts == 0 && b.gates.ends.inUse() == 0 })
	b.gates.set(b.limits())
}
