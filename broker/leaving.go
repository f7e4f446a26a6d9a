package broker

import (
	"context"
	"time"

	"locker/audit"
	"locker/wire"
)

// giveUp ends a request whose worker was told to stop; code is used when nobody left another.
func (b *Broker) giveUp(ctx context.Context, r *request, code wire.Code) {
	b.mu.Lock()
	if r.ended != 0 {
		code = r.ended
	}
	waited := r.outside
	if r.noise != nil {
		r.lastBlockers = b.noiseBlockers(r.noise)
	}
	b.mu.Unlock()
	if code == wire.CodeTimeout && r.noise == nil && waited != (place{}) {
		r.lastBlockers = b.outsideBlockers(r, waited)
	}
	b.mu.Lock()
	seq := b.recordEnd(r, code)
	evs := b.leave(r)
	b.mu.Unlock()
	r.closeFiles()
	b.commit(seq)
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
	b.dropPlace(r)
	if r.claim == nil {
		if r.place != nil { // it has come back for its place, and does not take it
			return b.moved(b.table.abandon(r.place))
		}
		return nil
	}
	return b.moved(b.table.abandon(r.claim)) // does nothing to a claim that is granted or gone
}

// stop ends a request from outside: it gives the events of one that only waits, and leaves word for the worker of another.
// The caller holds mu and has the request answered by run.
func (b *Broker) stop(r *request, code wire.Code) []event {
	switch r.phase {
	case phaseAbsent:
		return b.leave(r)
	case phaseQueued:
		r.ended = code
		if code == wire.CodeTimeout {
			r.lastBlockers = b.insideBlockers(r)
		}
		r.endSeq = b.recordEnd(r, code)
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
		if r.awaitsGuard {
			e.Text = "it was free, but there was no guard yet to keep file servers from it when the time to wait was over"
		}
		e.Blockers = r.lastBlockers
	case wire.CodeCanceled:
		e.Text = "canceled"
		if r.broken {
			e.Text = "somebody who may break locks there has ended the wait: while it lasted nobody else could get the file"
		}
	case wire.CodeShutdown:
		e.Text = "lockerd is stopping"
	case wire.CodeDenied:
		e.Text = denied("").Text
	case wire.CodeQuota:
		e.Text = "as many of your requests wait as may; see 'locker status'"
	case wire.CodeUnavailable:
		e.Text = "lockerd has no keeper at the moment, and grants nothing without one; try again"
	default:
		e.Text = "the request was ended"
	}
	return e
}

// recordEnd writes why a request that had begun to wait waits no more. The caller holds mu.
func (b *Broker) recordEnd(r *request, code wire.Code) (seq uint64) {
	if !r.waits {
		return 0
	}
	ev := audit.EventCancel
	if code == wire.CodeTimeout {
		ev = audit.EventTimeout
	}
	for _, path := range r.names() {
		rec := b.recordOf(r, ev, path)
		rec.Code, rec.Waited = code.String(), b.boot()-r.began
		seq = max(seq, b.append(&rec))
	}
	return seq
}

// setWaitDeadline starts the clock of a timed wait, or of the policy's max_wait, whichever is shorter. The caller holds mu.
func (b *Broker) setWaitDeadline(r *request) {
	if r.due.armed() {
		return
	}
	if r.until > 0 { // what the client asks for now is what it thinks is left of it
		b.arm(&r.due, r.until, deadlineWait, r, nil)
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

// ended is giveUp for a worker that goes on with the events itself.
func (b *Broker) ended(r *request) []event {
	b.mu.Lock()
	code := r.ended
	seq := b.recordEnd(r, code)
	evs := b.leave(r)
	b.mu.Unlock()
	r.closeFiles()
	b.commit(seq)
	r.answer(b.endError(r, code))
	return evs
}
