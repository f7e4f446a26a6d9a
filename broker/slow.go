package broker

import (
	"context"
	"slices"
	"time"

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
	if !r.mayHang() {
		b.runFor(ctx, r, work())
		return
	}
	got, unavailable := b.awaitSlot(ctx, r)
	if got {
		defer r.s.acct.leaveSlow(b)
		b.runFor(ctx, r, work())
		return
	}
	b.withoutLocks(ctx, r, func() {
		if unavailable != nil {
			b.runAll(ctx, b.refuse(r, unavailable))
			return
		}
		b.giveUp(ctx, r, wire.CodeShutdown)
	})
}

// awaitSlot waits for a slot until ctx or the request ends; the time that it may wait counts meanwhile. Who does not want to wait for
// others waits for it as for a slot to open files in: it is not somebody who has the file. A session's goroutine may wait here too; its
// connection is not read meanwhile.
func (b *Broker) awaitSlot(ctx context.Context, r *request) (got bool, unavailable *wire.Error) {
	waiting, cancel := b.stoppable(ctx, r)
	defer cancel()
	patience := time.Duration(0)
	b.mu.Lock()
	armed := r.due.armed()
	switch {
	case r.msg.Wait == wire.NonBlock:
		patience = b.times.open
	case r.ended == 0:
		b.setWaitDeadline(r)
	}
	b.mu.Unlock()
	if !r.s.acct.enter(waiting, b, &r.s.acct.slow, &b.gates.slow, patience) {
		if waiting.Err() == nil {
			return false, &wire.Error{Code: wire.CodeUnavailable, Path: r.msg.Paths[0], Text: "too many requests work on file systems that do not answer at the moment"}
		}
		return false, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.ended == 0 && !armed {
		b.deadlines.remove(&r.due)
	}
	return true, nil
}

// withoutLocks ends a claim that may hang, and has no slot, when its files are not locked any more: whose turn is next is not to take our own
// locks for somebody else's.
func (b *Broker) withoutLocks(ctx context.Context, r *request, end func()) {
	r.liftAll()
	b.endApart(ctx, r.slowDev(), func() {
		for i, f := range r.files {
			if f != nil && (i >= len(r.covered) || !r.covered[i]) {
				f.Unlock()
			}
		}
		end()
	})
}

// slowDev is the st_dev of a file of r's that may hang.
func (r *request) slowDev() uint64 {
	for _, f := range r.files {
		if f != nil && f.Network {
			return f.ID.Dev
		}
	}
	return noDev
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

// noDev stands for the file systems of descriptors that nothing is asked about any more.
const noDev = 0

// endQueue is what is to be let go of on one file system, in its order, endsDev at a time. These are no uid's slots, since what hangs is the
// server, and none of a request's: whoever hangs there still gets rid of what he has elsewhere.
type endQueue struct {
	left    []slowEnd
	working int
}

type slowEnd struct {
	ctx context.Context
	end func()
}

// endApart lets go of a file on a network file system, in a goroutine of its own; dev is its st_dev. If ctx ends before its turn comes,
// lockerd ends, and what it has with it, or has left it to the next.
func (b *Broker) endApart(ctx context.Context, dev uint64, end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLater(ctx, dev, end)
}

// endLater is endApart. The caller holds mu.
func (b *Broker) endLater(ctx context.Context, dev uint64, end func()) {
	q := b.ends[dev]
	if q == nil {
		q = &endQueue{}
		b.ends[dev] = q
	}
	q.left = append(q.left, slowEnd{ctx, end})
	if q.working < endsDev {
		q.working++
		b.work.Go(func() { b.workOff(dev, q) })
	}
}

// workOff lets go of what is left on one file system.
func (b *Broker) workOff(dev uint64, q *endQueue) {
	for {
		b.mu.Lock()
		if len(q.left) == 0 {
			if q.working--; q.working == 0 {
				delete(b.ends, dev)
			}
			b.mu.Unlock()
			return
		}
		next := q.left[0]
		q.left = q.left[1:]
		b.mu.Unlock()
		if b.gates.ends.acquire(next.ctx, 0) {
			next.end()
			b.gates.ends.release()
		}
	}
}

// closeApart closes a file that is nobody's hold. Until then its descriptor counts among those that clients make us use.
func (b *Broker) closeApart(f *flock.File) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opening++
	b.endLater(context.Background(), f.ID.Dev, func() {
		f.Close()
		b.endOpening(1)
	})
}

// apartFrom gives those of holds that are let go of apart, and the others.
func apartFrom(holds []*hold) (network, local []*hold) {
	if !slices.ContainsFunc(holds, func(h *hold) bool { return h.info.network() }) {
		return nil, holds // as nearly always
	}
	for _, h := range holds {
		if h.info.network() {
			network = append(network, h)
		} else {
			local = append(local, h)
		}
	}
	return network, local
}
