package broker

import (
	"context"
	"slices"
	"sync/atomic"

	"locker/audit"
	"locker/authz"
	"locker/keeper"
	"locker/wire"
)

// A hold ends in three steps: beginEnd marks it (so that it ends once), finishEnd lets go of the kernel's lock and then
// takes it out of the table together with the record. Between the two it still keeps its place: the next claim is let in
// only when the kernel's lock is free, and never mistakes our own for somebody else's.
//
// The order stands so that a crash at any point brings no lock back that was given up:
//
//	mark     from here on nobody else ends it, and it is not sent to a new keeper
//	unlock   explicitly, which frees it for all copies: a copy without a lock is what a broker that starts throws away
//	drop     the keeper closes its copy
//	record   and table, together under mu. A record of a hold without a copy was given up, if the keeper was there all the time
//	answer   last; who asks again after a crash learns that there is nothing (any more), which is what he wanted

// beginEnd gives those of holds that nobody else is ending. The caller holds mu.
func (b *Broker) beginEnd(holds []*hold) []*hold {
	var taken []*hold
	for _, h := range holds {
		if !h.info.releasing {
			h.info.releasing = true
			b.deadlines.remove(&h.info.due)
			taken = append(taken, h)
		}
	}
	return taken
}

// finishEnd ends the holds that beginEnd gave. say fills in what the record says of each, perhaps in several goroutines. It gives
// the claims that move up, and the last record's number, 0 if there was none. The caller does not hold mu.
//
// Holds on network file systems, where letting go may hang, end on their own, later: whose lease ends there must not
// stop the clock for everybody else.
func (b *Broker) finishEnd(ctx context.Context, taken []*hold, say func(h *hold, r *audit.Record)) (evs []event, seq uint64) {
	network, local := apartFrom(taken)
	for _, h := range network {
		b.endApart(ctx, h.key.dev, func() {
			evs, seq := b.letGo([]*hold{h}, say)
			b.commit(seq)
			b.runAll(ctx, evs)
		})
	}
	return b.letGo(local, say)
}

// letGo is finishEnd for a goroutine that may hang.
func (b *Broker) letGo(taken []*hold, say func(h *hold, r *audit.Record)) (evs []event, seq uint64) {
	if len(taken) == 0 {
		return nil, 0
	}
	for _, h := range taken {
		if h.info.untold {
			continue
		}
		// An explicit unlock: another process may have a copy of the descriptor, and closing ours would not free it.
		keeper.Step("release.marked")
		if err := h.info.file.Unlock(); err != nil {
			b.logger.Error("unlock", "id", h.id, "error", err)
		}
		keeper.Step("release.unlocked")
		b.unwatch(h)
		h.info.file.Close()
	}
	for _, h := range taken { // when all are unlocked: the guard may hang
		if h.info.ward != nil {
			b.lift(h.info.ward)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range taken {
		b.unkeep(h.id)
		keeper.Step("release.dropped")
		b.lastAltered(h)
		rec := b.recordOfHold(h, "")
		say(h, &rec)
		if h.info.untold {
			rec.Event = audit.EventCleared // that it is lost is on record
		}
		if n := b.append(&rec); n != 0 {
			seq = n
		}
		b.forget(h)
		evs = append(evs, b.table.release(h)...)
	}
	return b.moved(evs), seq
}

// forget takes a hold out of the broker's own books. The caller holds mu.
func (b *Broker) forget(h *hold) {
	b.changes.forget(h)
	path := h.info.path
	if rest := slices.DeleteFunc(b.byPath[path], func(g *hold) bool { return g == h }); len(rest) > 0 {
		b.byPath[path] = rest
	} else {
		delete(b.byPath, path)
	}
	b.unuse(ruleUse{h.uid, h.info.rule})
}

// unlock works on an Unlock request.
func (b *Broker) unlock(ctx context.Context, s *session, id uint32, m *wire.Unlock) {
	who := s.identify()
	for _, path := range m.Paths {
		if err := authz.CheckPath(path); err != nil {
			s.refuse(id, wire.CodeInvalid, path, err.Error())
			return
		}
	}
	b.mu.Lock()
	found, answer := b.selectOwn(s, m)
	taken := b.beginEnd(found)
	cleared := b.clearLost(s, m, answer)
	b.mu.Unlock()
	say := func(h *hold, r *audit.Record) {
		who.sign(r)
		r.Event = audit.EventRelease
	}
	network, local := apartFrom(taken)
	evs, seq := b.letGo(local, say)
	b.run(ctx, evs)
	seq = max(seq, cleared)
	finish := func() {
		b.commit(seq)
		keeper.Step("release.written")
		s.send(id, answer)
		keeper.Step("release.answered")
	}
	if len(network) == 0 {
		finish()
		return
	}
	var left atomic.Int32 // who lets go of the last one answers
	left.Store(int32(len(network)))
	for _, h := range network {
		b.endApart(ctx, h.key.dev, func() {
			evs, seq := b.letGo([]*hold{h}, say)
			b.commit(seq)
			if left.Add(-1) == 0 {
				finish()
			}
			b.runAll(ctx, evs)
		})
	}
}

// selectOwn finds the holds that an Unlock names. The caller holds mu.
func (b *Broker) selectOwn(s *session, m *wire.Unlock) ([]*hold, *wire.Released) {
	attached := owner{uid: s.peer.UID, session: s.id}
	mine := func(h *hold) bool {
		return h.owner == attached || h.owner.session == 0 && h.uid == s.peer.UID
	}
	answer := &wire.Released{}
	var found []*hold
	switch m.By {
	case wire.ByID:
		h := b.table.byID(m.ID)
		if h == nil || !mine(h) { // one answer for both: whether somebody else's id exists is not told
			return nil, answer
		}
		answer.IDs = []uint64{h.id}
		return []*hold{h}, answer
	case wire.ByAll:
		for _, h := range b.table.heldByUID(s.peer.UID) {
			if h.owner.session == 0 && (m.AnyTag || h.owner.tag == m.Tag) && !h.info.releasing {
				found = append(found, h)
				if len(answer.IDs) < wire.MaxIDs { // all are released, so many are named
					answer.IDs = append(answer.IDs, h.id)
				}
			}
		}
	default:
		answer.IDs = make([]uint64, len(m.Paths))
		for i, path := range m.Paths {
			for _, h := range b.byPath[path] {
				if h.info.releasing || !mine(h) || h.owner != attached && !m.AnyTag && h.owner.tag != m.Tag {
					continue
				}
				found = append(found, h)
				answer.IDs[i] = h.id
			}
		}
	}
	return found, answer
}

// commit waits until the record with this number is written; a record that could not be is the log's to report.
func (b *Broker) commit(seq uint64) {
	if seq == 0 {
		return
	}
	if err := b.log.Commit(seq, false); err != nil {
		b.logger.Error("record not written", "seq", seq, "error", err)
	}
}

// append records an event that is never refused for want of space; 0 if even that failed, which the log's health
// shows. The caller holds mu.
func (b *Broker) append(r *audit.Record) uint64 {
	if b.stopped {
		return 0
	}
	seq, err := b.log.Append(r)
	if err != nil {
		return 0
	}
	return seq
}
