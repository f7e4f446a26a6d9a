package broker

import (
	"context"
	"time"

	"locker/wire"
)

// drain sends away everybody who waits, tells the holders of attached locks that lockerd stops, and ends the sessions once
// they have let go or their grace is over.
func (b *Broker) drain(ctx context.Context) {
	b.mu.Lock()
	b.draining = true
	var evs []event
	var away []*session
	var waiting []*request
	var attached []*hold
	var grace time.Duration
	for _, s := range b.sessions {
		if s.away {
			away = append(away, s)
			continue
		}
		for _, r := range s.requests {
			waiting = append(waiting, r)
			evs = append(evs, b.stop(r, wire.CodeShutdown)...)
		}
		for _, h := range b.table.heldBy(owner{uid: s.peer.UID, session: s.id}) {
			attached = append(attached, h)
			grace = max(grace, h.info.grace)
		}
	}
	losses := b.lossesOf(attached, wire.Stopped, "", "")
	b.mu.Unlock()
	for _, s := range away {
		b.endAway(ctx, s, "lockerd stopped")
	}
	b.runAll(ctx, evs)
	tell(losses)
	// Those that somebody works on are answered by him; a file system that hangs must not hold us up.
	waitUntil(writeDeadline, func() bool {
		for len(waiting) > 0 && waiting[0].isAnswered() {
			waiting = waiting[1:]
		}
		return len(waiting) == 0
	})
	if grace > 0 {
		waitUntil(grace, func() bool { return b.allEnded(attached) })
	}
	// One deadline for all: a client that keeps asking and reads just enough must not keep lockerd from stopping.
	last, cancel := context.WithTimeout(ctx, b.times.write)
	defer cancel()
	for _, s := range b.everySession() {
		// So that the client does not look for the next lockerd to go on with.
		s.refuse(0, wire.CodeShutdown, "", "lockerd is stopping")
		s.out.flush(last)
		s.hangUp("lockerd stopped")
	}
	waitUntil(writeDeadline, func() bool { return len(b.everySession()) == 0 })
	for _, s := range b.everySession() {
		s.kill("lockerd stopped", false)
	}
}

// allEnded reports whether none of the holds is held any more.
func (b *Broker) allEnded(holds []*hold) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range holds {
		if b.table.byID(h.id) == h {
			return false
		}
	}
	return true
}

func (b *Broker) everySession() []*session {
	b.mu.Lock()
	defer b.mu.Unlock()
	sessions := make([]*session, 0, len(b.sessions))
	for _, s := range b.sessions {
		sessions = append(sessions, s)
	}
	return sessions
}

// waitUntil waits for done to be true, at most so long.
func waitUntil(limit time.Duration, done func() bool) {
	over := time.NewTimer(limit)
	defer over.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !done() {
		select {
		case <-over.C:
			return
		case <-poll.C:
		}
	}
}
