package broker

import (
	"context"

	"locker/wire"
)

// inlineClaims is how many claims that a release has set free its own goroutine works on before it hands the rest to
// another: the releaser waits for its answer meanwhile.
const inlineClaims = 4

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
		b.keepPlace(r)
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
		if r.phase == phaseAbsent {
			continue // its client will ask where it stands; until then whoever is behind it waits
		}
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
//
// Whoever calls it waits meanwhile, so only what is quick is done here: claims that wait for the disk, or that may hang, and
// all beyond the first few are handed to a goroutine of their own.
func (b *Broker) run(ctx context.Context, evs []event) {
	for done := 0; len(evs) > 0; done++ {
		if done == inlineClaims {
			b.runApart(ctx, evs)
			return
		}
		e := evs[0]
		evs = evs[1:len(evs):len(evs)]
		if e.v == pending && e.c.req.msg.Life == wire.Detached {
			b.runApart(ctx, []event{e})
			continue
		}
		evs = append(evs, b.act(ctx, e, nil)...)
	}
}

// runApart is run in a goroutine of its own.
func (b *Broker) runApart(ctx context.Context, evs []event) {
	if len(evs) > 0 {
		b.work.Go(func() { b.runAll(ctx, evs) })
	}
}

// runAll is run for a goroutine that nobody waits for.
func (b *Broker) runAll(ctx context.Context, evs []event) { b.runFor(ctx, nil, evs) }

// runFor is run for the goroutine that works on mine, whose own claim may take its time.
func (b *Broker) runFor(ctx context.Context, mine *request, evs []event) {
	for len(evs) > 0 {
		e := evs[0]
		evs = append(evs[1:len(evs):len(evs)], b.act(ctx, e, mine)...)
	}
}

// act does what an event asks for, and gives the events that follow from it. A claim on a network file system is worked on
// apart, with a slot of the few that may hang, unless it is mine, which has one.
func (b *Broker) act(ctx context.Context, e event, mine *request) []event {
	r := e.c.req
	switch e.v {
	case pending:
		if r != mine && r.network() {
			b.apart(ctx, r, func() []event { return b.claim(ctx, r) })
			return nil
		}
		return b.claim(ctx, r)
	case queued:
		b.parkIfIdle(r)
		r.announce(b.queuedFor(r, nil))
		return nil
	case satisfied:
		return b.answerOwned(r)
	case stopped:
		r.closeFiles()
		b.commit(r.endSeq)
		r.answer(b.endError(r, r.ended))
		return nil
	default:
		return b.refuse(r, b.refusal(r, e.v))
	}
}
