package broker

import (
	"context"
	"errors"
	"time"

	"locker/audit"
	"locker/flock"
	"locker/wire"
)

// inlineClaims is how many claims that a release has set free its own goroutine works on before it hands the rest to
// another: the releaser waits for its answer meanwhile.
const inlineClaims = 4

// maxReplaced bounds how often in a row a claim follows a file that is being replaced.
const maxReplaced = 8

// judge takes the table's verdict on a claim into its request. The caller holds mu, and passes the events to run
// when it has let go.
func (b *Broker) judge(r *request, v verdict, d detail) []event {
	r.detail = d
	switch v {
	case pending:
		r.phase = phaseClaiming
	case queued:
		r.phase = phaseQueued
		b.recordWait(r, "")
		b.setWaitDeadline(r)
		b.changed()
	}
	return []event{{c: r.claim, v: v}}
}

// moved notes, under mu, that the table has moved these claims.
func (b *Broker) moved(evs []event) []event {
	kept := evs[:0]
	for _, e := range evs {
		r := e.c.req
		r.detail = e.d
		if e.v != pending && r.phase == phaseClaiming {
			r.overtaken = e.v // somebody is at work on it, and will see
			continue
		}
		r.phase = phaseClaiming // only who acts on the event works on it from now on
		kept = append(kept, e)
	}
	b.changed()
	return kept
}

// run works on events until nothing moves any more. The caller does not hold mu.
func (b *Broker) run(ctx context.Context, evs []event) {
	for done := 0; len(evs) > 0; done++ {
		if done == inlineClaims {
			rest := evs
			b.work.Go(func() { b.runAll(ctx, rest) })
			return
		}
		evs = append(evs[1:len(evs):len(evs)], b.act(ctx, evs[0])...)
	}
}

func (b *Broker) runAll(ctx context.Context, evs []event) {
	for len(evs) > 0 {
		evs = append(evs[1:len(evs):len(evs)], b.act(ctx, evs[0])...)
	}
}

// act does what an event asks for, and gives the events that follow from it.
func (b *Broker) act(ctx context.Context, e event) []event {
	r := e.c.req
	switch e.v {
	case pending:
		if r.network() && r.phase != phaseOpening {
			b.work.Go(func() { b.runAll(ctx, b.claim(ctx, r)) })
			return nil
		}
		return b.claim(ctx, r)
	case queued:
		r.announce(b.queuedFor(r, nil))
		return nil
	case satisfied:
		return b.answerOwned(r)
	case stopped:
		r.closeFiles()
		r.answer(b.endError(r, r.ended))
		return nil
	default:
		return b.refuse(r, b.refusal(r, e.v))
	}
}

// refusal puts a verdict into the words of the protocol.
func (b *Broker) refusal(r *request, v verdict) *wire.Error {
	e := &wire.Error{Path: r.msg.Paths[0]}
	switch v {
	case blocked:
		e.Code, e.Text = wire.CodeBusy, "in use"
		e.Blockers = b.blockersOf(r, nil)
	case deadlock:
		e.Code, e.Text = wire.CodeDeadlock, "waiting would close a circle: the holder waits for a lock of yours; release yours first"
		e.Blockers = b.cycleBlockers(r)
	case conversion:
		e.Code, e.Text = wire.CodeConversion, "you hold it in the other mode, and a lock cannot be converted safely; release it first"
	case quotaHolds:
		e.Code, e.Text = wire.CodeQuota, "you hold as many locks as you may; see 'locker status'"
	case quotaWaiters:
		e.Code, e.Text = wire.CodeQuota, "as many of your requests wait as may; see 'locker status'"
	case quotaRule:
		e.Code, e.Text = wire.CodeQuota, "you hold as many locks as the policy's rule for this path allows"
	default:
		e.Code, e.Text = wire.CodeInternal, "the lock table gave an unknown verdict"
	}
	if len(e.Blockers) > 0 && e.Blockers[0].Path != "" {
		e.Path = e.Blockers[0].Path
	}
	return e
}

// refuse ends a request that is not, or no longer, in the table.
func (b *Broker) refuse(r *request, e *wire.Error) []event {
	b.deny(r, e)
	b.mu.Lock()
	evs := b.leave(r)
	b.mu.Unlock()
	r.closeFiles()
	r.answer(e)
	return evs
}

// answerOwned answers a request whose owner held everything already when the table judged it.
func (b *Broker) answerOwned(r *request) []event {
	g := &wire.Granted{Grants: make([]wire.Grant, len(r.msg.Paths))}
	b.mu.Lock()
	for i := range r.msg.Paths {
		k := r.claim.keys[r.slot[i]]
		for _, h := range r.detail.owned {
			if h.key == k {
				g.Grants[i] = wire.Grant{ID: h.id, Already: true, Rests: h.info.rests, Expires: h.info.expires}
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
	b.mu.Lock()
	r.covered = r.covered[:0]
	for i := range r.files {
		r.covered = append(r.covered, b.table.covering(r.claim, i) != nil)
	}
	b.mu.Unlock()
	busy, err := r.lockFiles()
	if err == nil {
		return b.lookAgain(ctx, r)
	}
	if !errors.Is(err, flock.ErrBusy) {
		return b.refuse(r, b.openRefusal(r, &openError{path: r.pathOf(busy), err: err}))
	}
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

// unlockFiles lets go of the first n files.
func (r *request) unlockFiles(n int) {
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
		b.changed()
	}
	b.mu.Unlock()
	at := r.placeOf(busy)
	b.work.Go(func() { r.announce(b.queuedFor(r, &at)) }) // to find out who it is takes longer than a wait may
	b.work.Go(func() {
		defer cancel()
		err := b.lockWhenFree(waiting, r, busy)
		b.mu.Lock()
		r.isOutside = false
		b.mu.Unlock()
		switch {
		case err == nil:
			b.runAll(ctx, b.lookAgain(ctx, r))
		case waiting.Err() != nil:
			b.giveUp(ctx, r, wire.CodeShutdown)
		default:
			b.runAll(ctx, b.refuse(r, b.openRefusal(r, &openError{path: r.pathOf(busy), err: err})))
		}
	})
	return nil
}

// lockWhenFree claims all files as soon as the kernel gives them. It waits for one file at a time and holds none while it waits.
func (b *Broker) lockWhenFree(ctx context.Context, r *request, busy int) error {
	for {
		at := busy
		b.mu.Lock()
		r.outside, r.isOutside = r.placeOf(at), true
		b.mu.Unlock()
		var failed error
		err := b.waiter.Wait(ctx, r.files[at], func() bool {
			busy, failed = r.lockFiles()
			return failed == nil || busy != at || !errors.Is(failed, flock.ErrBusy)
		})
		switch {
		case err != nil:
			return err
		case failed == nil:
			return nil
		case !errors.Is(failed, flock.ErrBusy):
			return failed
		}
	}
}

// lookAgain checks, with the kernel's locks in hand, that every path still leads to the file that is locked, and that the
// policy in force still says yes. If so the claim becomes holds; if a file was replaced, the claim follows the name.
func (b *Broker) lookAgain(ctx context.Context, r *request) []event {
	if current := b.rules.Load(); current != r.regime {
		r.unlockFiles(len(r.files))
		if refusal := b.decide(r); refusal != nil {
			return b.refuse(r, refusal)
		}
		return b.follow(ctx, r) // opened anew, since rules also say what may be opened and with which engines
	}
	for _, f := range r.files {
		same, err := r.regime.opener.Same(f)
		if err != nil || !same {
			r.unlockFiles(len(r.files))
			return b.follow(ctx, r)
		}
	}
	return b.grant(r)
}

// follow opens the paths anew after a file was replaced and moves the claim to what it finds.
func (b *Broker) follow(ctx context.Context, r *request) []event {
	r.closeFiles()
	if r.replaced++; r.replaced > maxReplaced && r.msg.Wait == wire.NonBlock {
		return b.refuse(r, &wire.Error{Code: wire.CodeBusy, Path: r.msg.Paths[0], Text: "the file keeps being replaced"})
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
	v, d, evs := b.table.rekey(r.claim, r.keys())
	evs = append(b.moved(evs), b.judge(r, v, d)...)
	if r.phase == phaseQueued && r.ended != 0 { // ended on the way: nobody else would look
		evs = append(evs, b.stop(r, r.ended)...)
	}
	return evs
}

// giveUp ends a request whose worker was told to stop; code is used when nobody left another.
func (b *Broker) giveUp(ctx context.Context, r *request, code wire.Code) {
	b.mu.Lock()
	if r.ended != 0 {
		code = r.ended
	}
	waited := r.outside
	b.mu.Unlock()
	if code == wire.CodeTimeout && waited != (place{}) {
		r.lastBlockers = b.outsideBlockers(r, waited)
	}
	b.mu.Lock()
	b.recordEnd(r, code)
	evs := b.leave(r)
	b.mu.Unlock()
	r.closeFiles()
	r.answer(b.endError(r, code))
	b.runAll(ctx, evs)
}

// leave takes a request out of the table, its session and the deadlines. The caller holds mu.
func (b *Broker) leave(r *request) []event {
	if r.phase == phaseDone {
		return nil
	}
	r.phase = phaseDone
	if r.s.requests[r.id] == r {
		delete(r.s.requests, r.id)
	}
	b.deadlines.remove(&r.due)
	b.unreserve(r)
	if r.claim == nil {
		return nil
	}
	return b.moved(b.table.abandon(r.claim)) // does nothing to a claim that is granted or gone
}

// stop ends a request from outside: it gives the events of one that only waits, and leaves word for the worker of another.
// The caller holds mu and has the request answered by run.
func (b *Broker) stop(r *request, code wire.Code) []event {
	switch r.phase {
	case phaseQueued:
		r.ended = code
		if code == wire.CodeTimeout {
			r.lastBlockers = b.insideBlockers(r)
		}
		b.recordEnd(r, code)
		evs := b.leave(r)
		return append(evs, event{c: r.claim, v: stopped})
	case phaseOpening, phaseClaiming:
		if r.ended == 0 {
			r.ended = code
		}
		if r.cancel != nil {
			r.cancel()
		}
	}
	return nil
}

// endError is the answer to a request that was stopped.
func (b *Broker) endError(r *request, code wire.Code) *wire.Error {
	e := &wire.Error{Code: code, Path: r.msg.Paths[0]}
	switch code {
	case wire.CodeTimeout:
		e.Text = "still in use when the time to wait was over"
		if r.capped {
			e.Text = "still in use after as long as the policy lets you wait"
		}
		e.Blockers = r.lastBlockers
	case wire.CodeCanceled:
		e.Text = "canceled"
	case wire.CodeShutdown:
		e.Text = "lockerd is stopping"
	case wire.CodeDenied:
		e.Text = denied("").Text
	case wire.CodeQuota:
		e.Text = "as many of your requests wait as may; see 'locker status'"
	default:
		e.Text = "the request was ended"
	}
	return e
}

// recordEnd writes why a request that had begun to wait waits no more. The caller holds mu.
func (b *Broker) recordEnd(r *request, code wire.Code) {
	if !r.waits {
		return
	}
	ev := audit.EventCancel
	if code == wire.CodeTimeout {
		ev = audit.EventTimeout
	}
	for _, path := range r.msg.Paths {
		rec := b.recordOf(r, ev, path)
		rec.Code, rec.Waited = code.String(), b.boot()-r.began
		b.append(&rec)
	}
}

// setWaitDeadline starts the clock of a timed wait, or of the policy's max_wait, whichever is shorter. The caller holds mu.
func (b *Broker) setWaitDeadline(r *request) {
	if r.due.armed() {
		return
	}
	var limit time.Duration
	if r.msg.Wait == wire.Timed {
		limit = max(r.msg.Timeout, 1)
	}
	for i := range r.decisions {
		if m := r.decisions[i].MaxWait; m > 0 && (limit == 0 || m < limit) {
			limit, r.capped = m, true
		}
	}
	if limit > 0 {
		b.arm(&r.due, r.began+limit, deadlineWait, r, nil)
	}
}
