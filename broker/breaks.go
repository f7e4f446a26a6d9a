package broker

import (
	"context"
	"slices"
	"time"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// breakLock works on a Break request: somebody with the permission ends other people's holds. By path also the claims that stand before
// the file until it is idle, since nobody else gets it meanwhile: see endIdleWaits.
func (b *Broker) breakLock(ctx context.Context, s *session, id uint32, m *wire.Break) {
	who := s.identify()
	if m.By == wire.ByPath {
		if err := authz.CheckPath(m.Path); err != nil {
			s.refuse(id, wire.CodeInvalid, m.Path, err.Error())
			return
		}
	}
	b.mu.Lock()
	var found []*hold
	var lost []*lostHold
	if m.By == wire.ByID {
		if h := b.table.byID(m.ID); h != nil {
			found = []*hold{h}
		}
		if l := b.lost[m.ID]; l != nil {
			lost = []*lostHold{l}
		}
	} else {
		found = append(found, b.byPath[m.Path]...)
		for _, l := range b.lostHolds() {
			if l.path == m.Path {
				lost = append(lost, l)
			}
		}
	}
	path := m.Path
	switch {
	case len(found) > 0:
		path = found[0].info.path
	case len(lost) > 0:
		path = lost[0].path
	}
	// uid 0 may break even what has left the whitelist; everybody else needs a rule for the path.
	var d authz.Decision
	if path != "" {
		d = b.rules.Load().policy.Decide(&s.peer, authz.ActBreak, path)
	}
	if !d.Allowed && s.peer.UID != 0 {
		b.mu.Unlock()
		// The same words for "not yours to break" and "not held": no oracle.
		e := &wire.Error{Code: wire.CodeDenied, Path: m.Path, Text: "the policy does not let you break this, or there is nothing here that you may break"}
		b.denyAction(who, "break", m.Path, e, d)
		s.send(id, e)
		return
	}
	taken, graced, moved := b.endEarly(found)
	answer := &wire.Released{}
	var seq uint64
	for _, h := range graced {
		rec := b.recordOfHold(h, audit.EventBreak)
		rec.Grace, rec.By, rec.Reason = h.info.grace, who.name(), m.Reason
		seq = max(seq, b.append(&rec))
		answer.IDs = append(answer.IDs, h.id)
	}
	for _, l := range lost {
		seq = max(seq, b.clear(l, who))
		answer.IDs = append(answer.IDs, l.id)
	}
	if m.By == wire.ByPath {
		for _, n := range b.endIdleWaits(m, who) {
			seq = max(seq, n)
			answer.IDs = append(answer.IDs, n)
		}
	}
	losses := b.lossesOf(append(graced, taken...), wire.Broken, who.name(), m.Reason)
	b.mu.Unlock()
	for _, h := range taken {
		answer.IDs = append(answer.IDs, h.id)
	}
	answer.IDs = answer.IDs[:min(len(answer.IDs), wire.MaxIDs)] // all are broken, so many are named
	tell(losses)
	evs, n := b.finishEnd(ctx, taken, func(h *hold, r *audit.Record) {
		r.Event, r.By, r.Reason = audit.EventBreak, who.name(), m.Reason
	})
	b.run(ctx, append(moved, evs...))
	b.commit(max(seq, n))
	s.send(id, answer)
}

// endIdleWaits ends the claims that have the path's file for themselves and wait until nobody has it open: a program that runs for ever
// would keep everybody from a file that the kernel would give. Those that wait their turn stay: a break of the hold before them is
// for them. It gives the number of each one's record, which stands for the id that a claim does not have. The caller holds mu.
func (b *Broker) endIdleWaits(m *wire.Break, by *who) (records []uint64) {
	for _, s := range b.sessions {
		for _, r := range s.requests {
			if r.phase != phaseClaiming || !r.waited || !r.asksIdle || r.ended != 0 || !slices.Contains(r.names(), m.Path) {
				continue
			}
			rec := b.recordOf(r, audit.EventCancel, m.Path)
			rec.Code, rec.Waited, rec.By, rec.Reason = wire.CodeCanceled.String(), b.boot()-r.began, by.name(), m.Reason
			if n := b.append(&rec); n != 0 {
				records = append(records, n)
			}
			r.broken, r.waits = true, false // that is its record
			b.stop(r, wire.CodeCanceled)    // which has nothing for us to do: its worker finds the word
		}
	}
	return records
}

// endEarly splits holds that end without their owner's word: those whose session asked for a grace are marked and stay
// until it is over or the session lets go; the others are taken for finishEnd. The caller holds mu.
func (b *Broker) endEarly(holds []*hold) (taken, graced []*hold, evs []event) {
	for _, h := range holds {
		switch {
		case h.info.releasing || h.ending:
			// Somebody was faster, or it is in its grace already.
		case h.info.session != nil && h.info.grace > 0:
			evs = append(evs, b.table.markEnding(h)...)
			b.deadlines.remove(&h.info.due)
			b.arm(&h.info.due, b.boot()+h.info.grace, deadlineGrace, nil, h)
			b.tellKeeper(h)
			graced = append(graced, h)
			b.changed()
		default:
			taken = append(taken, b.beginEnd([]*hold{h})...)
		}
	}
	return taken, graced, b.moved(evs)
}

// loss is what a session is told of an attached hold that it has lost.
type loss struct {
	s    *session
	lost *wire.Lost
}

// lossesOf says what to tell whom of the attached ones among holds. The caller holds mu, and has it from when it ended them: whose
// hold is whose changes when a client comes back, and what has ended before that, its answer tells it.
func (b *Broker) lossesOf(holds []*hold, cause wire.LossCause, by, reason string) (losses []loss) {
	for _, h := range holds {
		if s := h.info.session; s != nil {
			lost := &wire.Lost{ID: h.id, Cause: cause, Path: h.info.path, Grace: h.info.grace}
			if b.maySee(&s.peer, s.peer.UID, h.info.path) {
				lost.By, lost.Reason = by, reason
			}
			losses = append(losses, loss{s, lost})
		}
	}
	return losses
}

// tell sends what lossesOf gave. Before the kernel's lock is let go, where there is a grace: that is what it is for.
func tell(losses []loss) {
	for _, l := range losses {
		l.s.send(0, l.lost)
	}
}

// expire ends a hold whose lease is over. The caller does not hold mu.
func (b *Broker) expire(ctx context.Context, h *hold) {
	b.mu.Lock()
	taken, graced, moved := b.endEarly([]*hold{h})
	var seq uint64
	for _, h := range graced {
		rec := b.recordOfHold(h, audit.EventExpire)
		rec.Grace = h.info.grace
		seq = b.append(&rec)
	}
	losses := b.lossesOf(append(graced, taken...), wire.Expired, "", "")
	b.mu.Unlock()
	tell(losses)
	evs, n := b.finishEnd(ctx, taken, func(h *hold, r *audit.Record) { r.Event = audit.EventExpire })
	b.commit(max(seq, n))
	b.runApart(ctx, append(moved, evs...))
}

// graceOver ends a hold whose session did not let go of it in time.
func (b *Broker) graceOver(ctx context.Context, h *hold) {
	b.mu.Lock()
	taken := b.beginEnd([]*hold{h})
	b.mu.Unlock()
	evs, seq := b.finishEnd(ctx, taken, func(h *hold, r *audit.Record) {
		r.Event, r.Text = audit.EventRelease, "the grace of "+h.info.grace.Round(time.Millisecond).String()+" is over"
	})
	b.commit(seq)
	b.runApart(ctx, evs)
}
