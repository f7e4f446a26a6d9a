package broker

import (
	"context"
	"slices"

	"locker/flock"
	"locker/wire"
)

// Whatever touches a file on a network file system may hang beyond SIGKILL, each time with a thread of its own, and the runtime ends the
// process at 10,000 of them. So there is a slot for each goroutine that may, of the uid's and of everybody's. It belongs to the
// goroutine and not to the claim: a claim that merely waits has none, or those who wait would keep others from working.

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
// more follows.
func (b *Broker) inSlot(ctx context.Context, r *request, work func() []event) {
	if r.mayHang() {
		if !r.s.acct.enterSlow(ctx, b) {
			b.giveUp(ctx, r, wire.CodeShutdown)
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

// endApart lets go of a hold of uid on a network file system, in a goroutine of its own. Its slots are others than those of requests: who
// hangs in claims still gets rid of what he holds elsewhere. A uid that has no connection any more gets an account for that.
func (b *Broker) endApart(ctx context.Context, uid uint32, end func()) {
	b.mu.Lock()
	a := b.accountOf(uid)
	a.endings++
	b.mu.Unlock()
	b.work.Go(func() {
		if a.enterEnd(ctx, b) { // not: lockerd ends, and the lock with it
			defer a.leaveEnd(b)
		}
		defer func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			a.endings--
			b.forgetIdle(a)
		}()
		end()
	})
}
