package broker

import (
	"context"
	"errors"
	"time"

	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// Some holds rest on it that nobody else has the file open: those of sparsebundles, and those that were asked for so. The kernel
// says so only while no other description of the file can read or write (flock.File.TryLock), so ours must not be in the way:
//
//   - A claim that waits in the table gives up its real descriptor while it stands before or behind one that asks (park).
//   - Of an owner's claims that are pending on one file (see line) those behind the first do so as well: mayTry.
//   - What we have open for a moment is waited out before anybody is called busy (awaitIdle): a request between its open and
//     the table, and a hold that was let go, whose copy lives until the keeper has read that it may close it.
//
// The claim that asks keeps its descriptor open all the while, so that its tries close nothing: a close is what wakes it.

// idlePatience is how long a file that is open, and not locked, is waited for in silence.
const idlePatience = 20 * time.Millisecond

// notIdle gives the first of the owner's own holds that does not rest on what the request asks for. The caller holds mu.
func (r *request) notIdle(own []*hold) *hold {
	for _, h := range own {
		if r.idle && h.info.rests&wire.RestIdle == 0 {
			return h
		}
	}
	return nil
}

// heldOtherwise is the answer to an owner who asks for more than he has.
func heldOtherwise(h *hold) *wire.Error {
	return &wire.Error{
		Code: wire.CodeConversion, Path: h.info.path,
		Text: "you hold it without having asked whether others have it open, and who has opened it since is not known; release it first",
	}
}

// parkIfIdle parks a claim that has begun to wait, if that may keep somebody from an idle file: itself, or who is asking the
// kernel at this moment. Whoever asks later finds it in the queue: parkOthers.
func (b *Broker) parkIfIdle(r *request) {
	r.parking.Lock()
	defer r.parking.Unlock()
	b.mu.Lock()
	idle := false
	if r.phase == phaseQueued {
		idle = r.asksIdle
		for _, k := range r.claim.keys {
			for _, c := range b.table.pendingOn(k) {
				idle = idle || c.req.asksIdle
			}
		}
	}
	b.mu.Unlock()
	if idle {
		r.park()
	}
}

// parkOthers parks all claims that wait for r's files, which r has for itself at this moment.
func (b *Broker) parkOthers(r *request) {
	var waiting []*request
	b.mu.Lock()
	for _, k := range r.claim.keys {
		for _, c := range b.table.queue(k) {
			if c.req != r && c.req.phase == phaseQueued {
				waiting = append(waiting, c.req)
			}
		}
	}
	b.mu.Unlock()
	for _, q := range waiting {
		q.parking.Lock()
		b.mu.Lock()
		still := q.phase == phaseQueued
		b.mu.Unlock()
		if still {
			q.park()
		}
		q.parking.Unlock()
	}
}

// park exchanges the descriptors of a claim that was seen waiting. The caller holds parking, which whoever takes the claim out of
// the queue passes before it touches the files: so either it is seen here that it waits no more, or it waits for us.
func (r *request) park() {
	for _, f := range r.files {
		f.Park()
	}
}

// parked waits until nobody parks r's files any more. The caller has taken the claim out of the queue, so nobody begins to.
func (r *request) parked() {
	r.parking.Lock()
	r.parking.Unlock() //lint:ignore SA2001 see park
}

// awaitIdle waits a moment, and tells nobody, for who has the file number busy open and may be one of us.
func (b *Broker) awaitIdle(ctx context.Context, r *request, busy int) []event {
	waiting, cancel := context.WithTimeout(ctx, b.idlePatience)
	b.mu.Lock()
	if r.cancel = cancel; r.ended != 0 {
		cancel()
	}
	b.mu.Unlock()
	b.work.Go(func() {
		defer cancel()
		busy, err := b.lockWhenFree(waiting, r, busy)
		b.mu.Lock()
		ended := r.ended != 0
		b.mu.Unlock()
		if err != nil && errors.Is(err, waiting.Err()) && !ended && ctx.Err() == nil {
			b.inSlot(ctx, r, func() []event { return b.lastLook(ctx, r) })
			return
		}
		switch {
		case err == nil:
			keeper.Step("grant.locked")
			b.inSlot(ctx, r, func() []event { return b.lookAgain(ctx, r) })
		case err == errReplaced:
			b.inSlot(ctx, r, func() []event { return b.follow(ctx, r) })
		case err == errAnew:
			b.runAll(ctx, []event{{c: r.claim, v: pending}})
		case waiting.Err() != nil && (ended || ctx.Err() != nil):
			b.giveUp(ctx, r, wire.CodeShutdown)
		default:
			b.runAll(ctx, b.notLocked(ctx, r, busy, err))
		}
	})
	return nil
}

// lastLook is for the end of that moment: the hint may have been lost.
func (b *Broker) lastLook(ctx context.Context, r *request) []event {
	busy, err := r.lockFiles()
	switch {
	case err == nil:
		keeper.Step("grant.locked")
		return b.lookAgain(ctx, r)
	case errors.Is(err, flock.ErrBusy):
		return b.busyOutside(ctx, r, busy)
	}
	return b.notLocked(ctx, r, busy, err)
}
