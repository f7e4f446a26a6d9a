package broker

import (
	"context"
	"testing"
	"time"

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

// What hangs is a server: as many ends as hang there at most keep no other's waiting, and no requests. They are worked off in their order.
func TestEndsThatHangAreBoundedForEachFileSystem(t *testing.T) {
	r := newRig(t, nil)
	b := r.b
	b.gates.slow.set(0)
	const down, up, all = 1, 2, 3 * endsDev
	begun, goOn, other := make(chan int), make(chan struct{}), make(chan struct{})
	for i := range all {
		b.endApart(t.Context(), down, func() {
			begun <- i
			<-goOn
		})
	}
	b.mu.Lock()
	if q := b.ends[down]; q.working != endsDev || len(q.left) < all-endsDev {
		t.Errorf("%d are worked on, %d are left", q.working, len(q.left))
	}
	b.mu.Unlock()
	for range endsDev {
		if i := <-begun; i >= endsDev {
			t.Errorf("number %d is begun before those before it", i)
		}
	}
	b.endApart(t.Context(), up, func() { close(other) })
	<-other
	select {
	case <-begun:
		t.Errorf("more than %d hang", endsDev)
	default:
	}
	if n := b.gates.ends.inUse(); n > endsDev+1 {
		t.Errorf("%d slots are taken", n)
	}
	close(goOn)
	for range all - endsDev {
		<-begun
	}
	eventually(t, "nothing is left", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.ends) == 0 && b.gates.ends.inUse() == 0
	})
	// With no slot at all, who was told to stop leaves it to the next lockerd.
	b.gates.ends.set(0)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	b.endApart(ended, down, func() { t.Error("let go of though it is the next one's") })
	b.work.Wait()
	b.gates.set(b.limits())
}

// Who does not want to wait waits for a slot for a moment, and is told; his claim is not somebody's who has the file.
func TestWhoDoesNotWaitIsToldThatOthersHang(t *testing.T) {
	r := newRig(t, nil)
	r.b.times.open = time.Millisecond
	a := newAccount(65533, r.b.limits())
	a.slow.set(0)
	q := r.onNetwork(a)
	q.msg = &wire.Lock{Wait: wire.NonBlock, Paths: []string{"/a"}}
	if got, e := r.b.awaitSlot(t.Context(), q); got || e == nil || e.Code != wire.CodeUnavailable || e.Path != "/a" {
		t.Errorf("%v, %+v", got, e)
	}
	a.slow.set(1)
	if got, e := r.b.awaitSlot(t.Context(), q); !got || e != nil || a.slow.inUse() != 1 {
		t.Errorf("%v, %+v", got, e)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, e := r.b.awaitSlot(ended, q); got || e != nil {
		t.Errorf("ended: %v, %+v", got, e)
	}
}

// A claim that ends without a slot, its locks in hand, has let go of them before others have their turn.
func TestWhoEndsWithoutASlotHasLetGoOfHisLocks(t *testing.T) {
	r := newRig(t, nil)
	opener := r.b.rules.Load().opener
	path := r.file("a")
	f, err := opener.Open(path, flock.Want{Mode: flock.Exclusive})
	if err == nil {
		err = f.TryLock(flock.Exclusive)
	}
	next, nextErr := opener.Open(path, flock.Want{Mode: flock.Exclusive})
	if err != nil || nextErr != nil {
		t.Fatal(err, nextErr)
	}
	defer next.Close()
	f.Network = true
	q := r.onNetwork(newAccount(65533, r.b.limits()))
	q.files = []*flock.File{f}
	free := make(chan error, 1)
	r.b.withoutLocks(t.Context(), q, func() { free <- next.TryLock(flock.Exclusive) })
	if err := <-free; err != nil {
		t.Errorf("whose turn is next: %v", err)
	}
	q.closeFiles()
	r.b.work.Wait()
}

// A file that is nobody's hold is closed apart, since that may hang, and its descriptor counts until it is.
func TestFilesThatMayHangAreClosedApart(t *testing.T) {
	r := newRig(t, nil)
	f, err := r.b.rules.Load().opener.Open(r.file("a"), flock.Want{Mode: flock.Exclusive})
	if err != nil {
		t.Fatal(err)
	}
	f.Network = true
	q := r.onNetwork(newAccount(65533, r.b.limits()))
	q.files = []*flock.File{f}
	r.b.gates.ends.set(0)
	q.closeFiles()
	r.b.mu.Lock()
	n := r.b.descriptors()
	r.b.mu.Unlock()
	if n != 1 || f.FD() < 0 {
		t.Errorf("%d descriptors counted, number %d", n, f.FD())
	}
	r.b.gates.ends.set(endsAll)
	r.b.work.Wait()
	if n := r.use().books; n != 0 || f.FD() >= 0 {
		t.Errorf("%d books, descriptor %d", n, f.FD())
	}
}
