package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"locker/flock"
	"locker/wire"
)

// A rule may ask for quiet: a bundle is held only when nothing below it was written for so long. Whether it was is looked up last,
// with the kernel's locks in hand, since it is what changes without asking anybody. While it is not quiet the claim lets go of the locks and stands
// first in the queue, as one does whose file is in use. It looks again when the time has come that would be quiet if nothing more
// was written, and claims the file anew when it is.
//
// A time in the future, by a clock that was set back, counts as the moment in which the claim sees it first, and so delays it by no more than it
// would have been delayed by a write then. Who does not want to wait sees it for the first time each time.

// noise is why a bundle is not quiet yet.
type noise struct {
	id     flock.ID
	path   string
	wanted time.Duration
	last   time.Time // when it was written, and never later than when that was seen
}

// left is how long the bundle has to stay as it is.
func (n *noise) left(now time.Time) time.Duration { return n.wanted - n.ago(now) }

func (n *noise) ago(now time.Time) time.Duration { return max(0, now.Sub(n.last)) }

// words says it to people.
func (n *noise) words(now time.Time) string {
	return "written " + span(n.ago(now)) + " ago; the rule asks for " + span(n.wanted) + " of quiet"
}

// span gives a duration in whole seconds, or in minutes where that is as exact or there are many.
func span(d time.Duration) string {
	s := int64(d / time.Second)
	if s >= 600 || s >= 60 && s%60 == 0 {
		return fmt.Sprintf("%d min", s/60)
	}
	return fmt.Sprintf("%d s", s)
}

func (b *Broker) noiseBlockers(n *noise) []wire.Blocker {
	return []wire.Blocker{{Kind: wire.Outside, Path: n.path, Reason: n.words(b.now())}}
}

// quietOf is for how long the bundle that file i is must not have been written; 0: it may be, or the owner holds it already.
func (r *request) quietOf(i int) time.Duration {
	if !r.files[i].Bundle || r.covered[i] {
		return 0
	}
	return r.decisionOf(i).Quiet
}

func (r *request) asksQuiet() bool {
	for i := range r.files {
		if r.quietOf(i) > 0 {
			return true
		}
	}
	return false
}

// lookForQuiet is the last look before a grant, with the kernel's locks in hand.
func (b *Broker) lookForQuiet(ctx context.Context, r *request) []event {
	b.apart(ctx, r, func() []event { return b.whenQuiet(ctx, r) })
	return nil
}

func (b *Broker) whenQuiet(ctx context.Context, r *request) []event {
	looking, cancel := b.stoppable(ctx, r)
	defer cancel()
	n, err := b.lookLast(looking, r)
	if err == nil && n == nil {
		return b.grant(ctx, r)
	}
	r.unlockFiles(len(r.files))
	switch {
	case looking.Err() != nil:
		b.giveUp(ctx, r, wire.CodeShutdown)
		return nil
	case err != nil && (err != errManyLooks || r.msg.Wait == wire.NonBlock):
		return b.notHeard(ctx, r, err)
	case r.msg.Wait == wire.NonBlock:
		return b.refuse(r, &wire.Error{Code: wire.CodeBusy, Path: n.path, Text: n.words(b.now())})
	}
	if r.mayHang() { // it may be long, and is not to take a slot
		b.work.Go(func() { b.runAll(ctx, b.awaitQuiet(ctx, r, n)) })
		return nil
	}
	return b.awaitQuiet(ctx, r, n)
}

// lookLast looks through the bundles of a claim that has their locks. One that was looked through just now, without them or without the guard, goes ahead of all others of
// its uid: their turns are for looks that may find something, and meanwhile it would keep a Mac from a bundle that it does not hold yet.
func (b *Broker) lookLast(ctx context.Context, r *request) (*noise, error) {
	if r.heard {
		r.heard = false
		return b.lookThrough(ctx, r)
	}
	return b.listen(ctx, r, lastPatience)
}

// notHeard goes on with a claim for a bundle that could not be looked through.
func (b *Broker) notHeard(ctx context.Context, r *request, err error) []event {
	if errors.Is(err, flock.ErrReopen) { // replaced
		return b.followApart(ctx, r)
	}
	return b.refuse(r, b.openRefusal(r, err))
}

// awaitQuiet waits, without locks, until all bundles of the claim are quiet, and has it claimed anew. n is why they are not; nil: that is to be
// looked up first.
func (b *Broker) awaitQuiet(ctx context.Context, r *request, n *noise) []event {
	waiting, cancel := b.stoppable(ctx, r)
	defer cancel()
	r.park() // its own worker: nobody else parks what is being claimed
	err := b.untilQuiet(waiting, r, n)
	if waiting.Err() != nil {
		b.giveUp(ctx, r, wire.CodeShutdown)
		return nil
	}
	b.mu.Lock()
	r.noise = nil
	b.mu.Unlock()
	if err != nil {
		return b.notHeard(ctx, r, err)
	}
	r.heard = true
	return []event{{c: r.claim, v: pending}}
}

func (b *Broker) untilQuiet(ctx context.Context, r *request, n *noise) (err error) {
	for {
		b.noteNoise(r, n)
		if n != nil {
			if err := b.sleepUntilQuiet(ctx, r, n); err != nil {
				return err
			}
		}
		if b.rules.Load() != r.regime { // other rules by now: lookAgain asks them
			return nil
		}
		if n, err = b.listen(ctx, r, 0); err != nil || n == nil {
			return err
		}
	}
}

// noteNoise notes that the claim waits, and what for, and tells its client.
func (b *Broker) noteNoise(r *request, n *noise) {
	b.mu.Lock()
	if r.ended == 0 {
		b.setWaitDeadline(r)
	}
	if r.ended == 0 && n != nil {
		r.noise = n
		b.recordWait(r, n.words(b.now()))
		b.keepPlace(r)
		b.changed()
	}
	b.mu.Unlock()
	if n != nil {
		r.announce(b.queuedFor(r, nil))
	}
}

// sleepUntilQuiet returns when n is over by the wall clock, which file systems go by, or there is another policy. Timers do not go by that
// clock: longestSleep bounds how late it is noticed that it was set, or that the machine has slept.
func (b *Broker) sleepUntilQuiet(ctx context.Context, r *request, n *noise) error {
	for {
		left := n.left(b.now())
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(min(left, longestSleep))
		select {
		case <-timer.C:
		case <-r.regime.over:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// listen is lookThrough in its turn. errManyLooks: the uid's other claims are being looked through, and have been for as long as patience.
func (b *Broker) listen(ctx context.Context, r *request, patience time.Duration) (*noise, error) {
	if !b.enterLook(ctx, r.s.acct, patience) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, errManyLooks
	}
	defer b.leaveLook(r.s.acct)
	return b.lookThrough(ctx, r)
}

// lookThrough looks through the bundles of a claim and gives the one that stays noisy longest; nil: all are quiet. For whoever works on
// the claim.
func (b *Broker) lookThrough(ctx context.Context, r *request) (worst *noise, err error) {
	began := b.boot()
	defer func() { b.looks.took(r.s.acct.uid, b.boot(), b.boot()-began) }()
	for i, f := range r.files {
		wanted := r.quietOf(i)
		if wanted == 0 {
			continue
		}
		at, err := r.regime.opener.Written(ctx, f)
		if err != nil {
			if ctx.Err() == nil {
				err = &openError{path: r.pathOf(i), err: err}
			}
			return nil, err
		}
		now := b.now()
		n := &noise{id: f.ID, path: r.pathOf(i), wanted: wanted, last: r.lastWrite(f.ID, at, now)}
		if n.left(now) > 0 && (worst == nil || n.left(now) > worst.left(now)) {
			worst = n
		}
	}
	return worst, nil
}

// lastWrite gives the time of a write by our clock: by the file system's, unless that is in the future.
func (r *request) lastWrite(id flock.ID, at, now time.Time) time.Time {
	if !at.After(now) {
		return at
	}
	seen := r.ahead[id]
	if !seen.written.Equal(at) {
		seen = ahead{written: at, seen: now}
		if r.ahead == nil {
			r.ahead = map[flock.ID]ahead{}
		}
		r.ahead[id] = seen // of as many files as the claim has, at most
	}
	return seen.seen
}

// ahead is a write in the future, and when the claim saw it first.
type ahead struct{ written, seen time.Time }
