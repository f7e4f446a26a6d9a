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

// What hangs is a server: as many ends as hang there at most keep no other's waiting, and no requests.
func TestEndsThatHangAreBoundedForEachFileSystem(t *testing.T) {
	r := newRig(t, nil)
	b := r.b
	b.gates.slow.set(0)
	const down, up = 1, 2
	begun, goOn, other := make(chan int), make(chan struct{}), make(chan struct{})
	for range endsDev + 1 {
		b.endApart(t.Context(), down, func() {
			b.mu.Lock()
			e := b.ends[down]
			b.mu.Unlock()
			begun <- e.inUse()
			<-goOn
		})
	}
	for range endsDev {
		if n := <-begun; n > endsDev {
			t.Errorf("%d hang", n)
		}
	}
	b.endApart(t.Context(), up, func() { close(other) })
	<-other
	select {
	case <-begun:
		t.Errorf("more than %d hang", endsDev)
	default:
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	b.endApart(ended, down, func() { t.Error("let go of by a lockerd that has left it to the next") })
	eventually(t, "who was told to stop has gone", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.ends[down].asked == endsDev+1
	})
	close(goOn)
	<-begun
	eventually(t, "nothing is left", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.ends) == 0 && b.gates.ends.inUse() == 0
	})
	b.gates.set(b.limits())
}
