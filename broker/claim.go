package broker

import (
	"context"
	"errors"

	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// answerOwned answers a request whose owner held everything already when the table judged it.
func (b *Broker) answerOwned(r *request) []event {
	g := &wire.Granted{Grants: make([]wire.Grant, len(r.msg.Paths))}
	b.mu.Lock()
	if h := r.notIdle(r.detail.owned); h != nil {
		b.mu.Unlock()
		return b.refuse(r, heldOtherwise(h))
	}
	for i := range r.msg.Paths {
		k := r.claim.keys[r.slot[i]]
		for _, h := range r.detail.owned {
			if h.key == k {
				g.Grants[i] = wire.Grant{ID: h.id, Already: !h.info.askedBy(r), Rests: h.info.rests, Expires: h.info.expires}
			}
		}
	}
	evs := b.leave(r)
	b.mu.Unlock()
	r.closeFiles()
	r.answer(g)
	return evs
}

// claim asks the kernel for a claim's files. The table has reserved them, and only this goroutine works on r.
func (b *Broker) claim(ctx context.Context, r *request) []event {
	r.parked()
	var own []*hold
	b.mu.Lock()
	r.covered = r.covered[:0]
	for i := range r.files {
		h := b.table.covering(r.claim, i)
		if r.covered = append(r.covered, h != nil); h != nil {
			own = append(own, h)
		}
	}
	h := r.notIdle(own)
	b.mu.Unlock()
	if h != nil {
		return b.refuse(r, heldOtherwise(h))
	}
	busy, err := r.lockFiles()
	if err == nil {
		keeper.Step("grant.locked")
		return b.lookAgain(ctx, r)
	}
	return b.notLocked(ctx, r, busy, err)
}

// notLocked goes on with a claim to which the kernel has said no, by its file number busy.
func (b *Broker) notLocked(ctx context.Context, r *request, busy int, err error) []event {
	r.heard = false // it will be long ago
	switch {
	case errors.Is(err, flock.ErrReopen):
		return b.followApart(ctx, r)
	case !errors.Is(err, flock.ErrBusy):
		return b.refuse(r, b.openRefusal(r, &openError{path: r.pathOf(busy), err: err}))
	case r.asksIdle:
		b.parkOthers(r)
		if errors.Is(err, flock.ErrInUse) {
			return b.awaitIdle(ctx, r, busy)
		}
	}
	return b.busyOutside(ctx, r, busy)
}

// busyOutside goes on with a claim for a file that somebody outside the broker has.
func (b *Broker) busyOutside(ctx context.Context, r *request, busy int) []event {
	if r.msg.Wait == wire.NonBlock {
		return b.refuse(r, &wire.Error{
			Code: wire.CodeBusy, Path: r.pathOf(busy), Text: "in use by a program outside locker",
			Blockers: b.outsideBlockers(r, r.placeOf(busy)),
		})
	}
	return b.waitOutside(ctx, r, busy)
}

// lockFiles claims every file from the kernel, in (dev, ino) order, or none; busy is the index of the one that refused.
func (r *request) lockFiles() (busy int, err error) {
	_, m := modeOf(r.msg.Mode)
	for i, f := range r.files {
		if r.covered[i] {
			continue
		}
		if err := f.TryLock(m); err != nil {
			r.unlockFiles(i)
			return i, err
		}
	}
	return 0, nil
}

// unlockFiles lets go of the first n files, and of what the guard was told of them. The caller does not hold mu.
func (r *request) unlockFiles(n int) {
	r.liftAll()
	for i, f := range r.files[:n] {
		if !r.covered[i] {
			f.Unlock()
		}
	}
}

// waitOutside waits until a holder outside the broker has let go. The claim is the head of its queues meanwhile.
func (b *Broker) waitOutside(ctx context.Context, r *request, busy int) []event {
	waiting, cancel := context.WithCancel(ctx)
	b.mu.Lock()
	r.cancel = cancel
	if r.ended != 0 {
		cancel()
	} else {
		b.recordWait(r, "in use by a program outside locker")
		b.setWaitDeadline(r)
		b.keepPlace(r)
		b.changed()
	}
	b.mu.Unlock()
	at := r.placeOf(busy)
	b.work.Go(func() { r.announce(b.queuedFor(r, &at)) }) // to find out who it is takes longer than a wait may
	b.work.Go(func() {
		defer cancel()
		busy, err := b.lockWhenFree(waiting, r, busy)
		switch {
		case err == nil:
			b.inSlot(ctx, r, func() []event { return b.lookAgain(ctx, r) })
		case err == errReplaced:
			b.inSlot(ctx, r, func() []event { return b.follow(ctx, r) })
		case err == errAnew:
			b.runAll(ctx, []event{{c: r.claim, v: pending}})
		case waiting.Err() != nil:
			b.giveUp(ctx, r, wire.CodeShutdown)
		default:
			b.runAll(ctx, b.refuse(r, b.openRefusal(r, &openError{path: r.pathOf(busy), err: err})))
		}
	})
	return nil
}

// errReplaced says that the name of a file that is waited for leads elsewhere by now: whoever holds the old one may keep it.
var errReplaced = errors.New("the file was replaced")

// errAnew says that the claim's owner holds other files of it than when the claim began to wait, so others are to be asked for.
var errAnew = errors.New("its owner holds others of its files")

// mayTry reports whether a pending claim shall ask the kernel now. It shall not while one before it, of the same owner, is pending on a
// file that both need, and one of them asks whether the file is idle: each would take the other's descriptor for somebody who has it open.
func (b *Broker) mayTry(r *request) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stillNeeds(r) {
		return false, errAnew
	}
	for _, k := range b.table.need(r.claim) {
		for _, c := range b.table.pendingOn(k) {
			if c.before(r.claim) && (c.req.asksIdle || r.asksIdle) {
				return false, nil
			}
		}
	}
	return true, nil
}

// lockWhenFree claims all files as soon as the kernel gives them. It waits for one file at a time, last gives which, and holds none
// while it waits.
func (b *Broker) lockWhenFree(ctx context.Context, r *request, busy int) (last int, err error) {
	defer func() {
		b.mu.Lock()
		r.isOutside = false
		b.mu.Unlock()
	}()
	for {
		at := busy
		b.mu.Lock()
		r.outside, r.isOutside = r.placeOf(at), true
		b.mu.Unlock()
		var failed error
		err := b.waiter.Wait(ctx, r.files[at], func() bool {
			return b.tryInSlot(ctx, r, func() bool {
				may, anew := b.mayTry(r)
				switch {
				case anew != nil:
					failed = anew
					return true
				case !may:
					r.park() // its own worker: nobody else parks what is being claimed
					return false
				}
				if busy, failed = r.lockFiles(); failed == nil || busy != at || !errors.Is(failed, flock.ErrBusy) {
					if errors.Is(failed, flock.ErrReopen) {
						failed = errReplaced
					}
					return true
				}
				if f := r.files[at]; !f.Network {
					if same, err := r.regime.opener.LeadsTo(f.Target, f.ID); err == nil && !same {
						failed = errReplaced
					}
				}
				return failed == errReplaced
			})
		})
		switch {
		case err != nil:
			return at, err
		case failed == nil, !errors.Is(failed, flock.ErrBusy): // errReplaced and errAnew among them
			return busy, failed
		}
	}
}
