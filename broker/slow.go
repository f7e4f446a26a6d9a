package broker

import (
	"context"
	"slices"

	"locker/flock"
	"locker/wire"
)

// Whatever touches a file on a network file system may hang beyond SIGKILL, each time with a thread of its own, and the runtime ends the
// process at 10,000 of them, the unit at TasksMax. So there is a slot for each goroutine that may, of the uid's and of everybody's. It belongs
// to the goroutine and not to the claim: a claim that merely waits has none, or those who wait would keep others from working.

// network reports whether a call on one of r's files may hang.
func (r *request) network() bool {
	return slices.ContainsFunc(r.files, func(f *flock.File) bool { return f != nil && f.Network })
}

// mayHang reports whether opening r's files anew, or a call on one of them, may hang.
func (r *request) mayHang() bool {
	return r.network() || slices.ContainsFunc(r.msg.Paths, r.regime.opener.Network)
}

// apart works on a claim in a goroutine of its own, and has done what follows from it.
func (b *Broker) apart(ctx context.Context, r *request, work func() []event) {
	b.work.Go(func() { b.inSlot(ctx, r, work) })
}

// inSlot is apart for a goroutine that is r's, and has no slot yet. If r's files may hang it waits for one, which it has until nothing
// more follows. What ends a claim ends that wait too, even with the kernel's locks in hand.
func (b *Broker) inSlot(ctx context.Context, r *request, work func() []event) {
	if r.mayHang() {
		waiting, cancel := b.stoppable(ctx, r)
		defer cancel()
		b.mu.Lock()
		if r.ended == 0 && r.msg.Wait != wire.NonBlock {
			b.setWaitDeadline(r)
		}
		b.mu.Unlock()
		if !r.s.acct.enterSlow(waiting, b) {
			r.liftAll()
			b.giveUp(ctx, r, wire.CodeShutdown) // which closes its files, and so lets go of them
			return
		}
		defer r.s.acct.leaveSlow(b)
	}
	b.runFor(ctx, r, work())
}

// tryInSlot makes one try of many, between which r's goroutine waits without a slot; false also if ctx ends before there is one.
func (b *Broker) tryInSlot(ctx context.Context, r *request, try func() bool) bool {
	if r.mayHang() {
		if !r.s.acct.enterSlow(ctx, b) {
			return false
		}
		defer r.s.acct.leaveSlow(b)
	}
	return try()
}

// stoppable gives a context that ends with the request, too.
func (b *Broker) stoppable(ctx context.Context, r *request) (context.Context, context.CancelFunc) {
	stoppable, cancel := context.WithCancel(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.cancel = cancel; r.ended != 0 {
		cancel()
	}
	return stoppable, cancel
}

// endSlots are the slots for letting go of files of one file system. They are no uid's, since what hangs is the server, and none of a
// request's: whoever hangs there still gets rid of what he has elsewhere.
type endSlots struct {
	slots
	asked int // how many have a slot or wait for one; guarded by Broker.mu
}

// endApart lets go of a file on a network file system, in a goroutine of its own; dev is its st_dev.
func (b *Broker) endApart(ctx context.Context, dev uint64, end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLater(ctx, dev, end)
}

// endLater is endApart. The caller holds mu.
func (b *Broker) endLater(ctx context.Context, dev uint64, end func()) {
	e := b.ends[dev]
	if e == nil {
		e = &endSlots{}
		e.set(endsDev)
		b.ends[dev] = e
	}
	e.asked++
	b.work.Go(func() {
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if e.asked--; e.asked == 0 {
				delete(b.ends, dev)
			}
		}()
		if !acquireBoth(ctx, &e.slots, &b.gates.ends, 0) {
			return // lockerd ends, and what it has with it, or has left it to the next
		}
		defer e.release()
		defer b.gates.ends.release()
		end()
	})
}

// apartFrom gives those of holds that are let go of apart, and the others.
func apartFrom(holds []*hold) (network, local []*hold) {
	for _, h := range holds {
		if h.info.network() {
			network = append(network, h)
		} else {
			local = append(local, h)
		}
	}
	return network, local
}
