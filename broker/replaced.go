package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// maxReplaced bounds how often in a row a claim follows a file that is being replaced.
const maxReplaced = 8

// lookAgain checks, with the kernel's locks in hand, that every path still leads to the file that is locked, and that the
// policy in force still says yes. If so the claim becomes holds; if a file was replaced, the claim follows the name.
func (b *Broker) lookAgain(ctx context.Context, r *request) []event {
	if current := b.rules.Load(); current != r.regime {
		r.unlockFiles(len(r.files))
		if refusal := b.decide(r); refusal != nil {
			return b.refuse(r, refusal)
		}
		return b.followApart(ctx, r) // opened anew, since rules also say what may be opened and with which engines
	}
	for _, f := range r.files {
		same, err := r.regime.opener.Same(f)
		if err != nil || !same {
			r.unlockFiles(len(r.files))
			return b.followApart(ctx, r)
		}
	}
	keeper.Step("grant.looked")
	if r.asksQuiet() {
		return b.lookForQuiet(ctx, r)
	}
	return b.grant(ctx, r)
}

// followApart is follow in a goroutine of its own: opening may have to wait for a slot, and whose lock set this claim free
// must not wait with it.
func (b *Broker) followApart(ctx context.Context, r *request) []event {
	b.apart(ctx, r, func() []event { return b.follow(ctx, r) })
	return nil
}

// replacedPause is how long a claim waits between two looks at a file that is replaced again and again.
const replacedPause = 50 * time.Millisecond

// pause waits for replacedPause, less if the request is ended meanwhile; false: it was.
func (b *Broker) pause(ctx context.Context, r *request) bool {
	pausing, cancel := context.WithTimeout(ctx, replacedPause)
	defer cancel()
	b.mu.Lock()
	r.cancel = cancel
	ended := r.ended != 0
	b.mu.Unlock()
	if !ended {
		<-pausing.Done()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return r.ended == 0
}

// follow opens the paths anew after a file was replaced and moves the claim to what it finds.
func (b *Broker) follow(ctx context.Context, r *request) []event {
	r.closeFiles()
	r.heard = false // of other files, or by other rules
	b.mu.Lock()
	if r.msg.Wait != wire.NonBlock {
		b.setWaitDeadline(r)
	}
	ended := r.ended != 0
	b.mu.Unlock()
	if ended {
		return b.ended(r)
	}
	if r.replaced++; r.replaced > maxReplaced {
		if r.msg.Wait == wire.NonBlock {
			return b.refuse(r, &wire.Error{Code: wire.CodeBusy, Path: r.msg.Paths[0], Text: "the file keeps being replaced"})
		}
		if !b.pause(ctx, r) {
			return b.ended(r)
		}
	}
	files, slot, err := b.openFiles(ctx, r)
	if err != nil {
		if errors.Is(err, flock.ErrBusy) && r.msg.Wait != wire.NonBlock {
			b.mu.Lock()
			evs := b.moved(b.table.abandon(r.claim))
			r.phase, r.claim = phaseOpening, nil
			b.mu.Unlock()
			b.waitForOpen(ctx, r)
			return evs
		}
		return b.refuse(r, b.openRefusal(r, err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.files, r.slot = files, slot
	r.asksIdle = slices.ContainsFunc(files, (*flock.File).AsksIdle)
	keys := r.keys()
	if !b.reserveFor(r, keys) { // under the rules that decide now
		evs := b.moved(b.table.abandon(r.claim))
		return append(evs, event{c: r.claim, v: quotaRule})
	}
	v, d, evs := b.table.rekey(r.claim, keys)
	evs = append(b.moved(evs), b.judge(r, v, d)...)
	if r.phase == phaseQueued && r.ended != 0 { // ended on the way: nobody else would look
		evs = append(evs, b.stop(r, r.ended)...)
	}
	return evs
}
