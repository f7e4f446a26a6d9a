package broker

import (
	"math"
	"time"

	"locker/audit"
	"locker/flock"
	"locker/wire"
)

// An alteration of a held file is told in three ways: the list has it as long as the hold lasts, the log for good, and the session of an
// attached hold hears of it. The first is told at once, then once a second at most, always with the sum: what is left out is in the next.
// Names in it are made by whoever deletes, and escaped wherever they are written.

// alteredPause is how long alterations of one hold are summed up before they are told again.
const alteredPause = time.Second

// alteredVersion is the first version of the protocol with Altered.
const alteredVersion = 4

// altered takes in what has become of a hold's files since they were watched. It is called by flock.Changes.
func (b *Broker) altered(id uint64, a flock.Alteration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.table.byID(id)
	if h == nil || h.info.releasing || h.info.changes == nil {
		return // it has ended meanwhile
	}
	h.take(a, b.now())
	b.noteAltered(h)
}

// take counts what has become of the files on what was before they were watched. The caller holds Broker.mu.
func (h *hold) take(a flock.Alteration, now time.Time) {
	k := h.info.changes
	sum := k.before
	sum.Count += min(a.Count, math.MaxUint32-sum.Count)
	sum.Missed = sum.Missed || a.Missed
	if a.Count > 0 {
		sum.Last = a.Last
	}
	sum.ID, sum.At, sum.Unwatched, sum.Lapsed = h.id, now, k.sum.Unwatched, k.sum.Lapsed
	k.sum, k.unlogged, k.unheard = sum, true, true
}

// lastAltered tells of a hold that ends what has not been told: who has just released it is about to use what he has read. The caller
// holds mu.
func (b *Broker) lastAltered(h *hold) {
	k := h.info.changes
	if k == nil {
		return
	}
	if uint64(k.before.Count)+uint64(k.final.Count) > uint64(k.sum.Count) || k.final.Missed && !k.sum.Missed {
		h.take(k.final, b.now())
	}
	b.logAltered(h)
	if s := h.info.session; k.unheard && s != nil && !s.away && s.version >= alteredVersion && !s.out.behind() {
		s.send(0, &wire.Altered{Alterations: []wire.Alteration{k.sum}})
	}
}

// noteAltered tells of an alteration, now or when it is time. The caller holds mu.
func (b *Broker) noteAltered(h *hold) {
	k := h.info.changes
	switch {
	case k.untold:
	case k.told == 0 || b.boot()-k.told >= alteredPause:
		b.tellAltered(h)
	default:
		b.changes.postpone(h)
	}
}

// postpone has a hold's alterations told later. The caller holds mu.
func (c *changes) postpone(h *hold) {
	h.info.changes.untold = true
	c.untold = append(c.untold, h)
	c.poke()
}

// tellUntold tells what is due; true if there is more to come, or more to watch.
func (b *Broker) tellUntold() (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, now := &b.changes, b.boot()
	all := c.untold
	c.untold = nil
	for _, h := range all {
		if now-h.info.changes.told < alteredPause {
			c.untold = append(c.untold, h)
			continue
		}
		h.info.changes.untold = false
		b.tellAltered(h)
	}
	return len(c.untold)+len(c.fresh) > 0
}

// tellAltered records an alteration, unless its user's holds have caused too many such records, and tells whoever can hear it. The
// caller holds mu.
func (b *Broker) tellAltered(h *hold) {
	k := h.info.changes
	k.told = max(b.boot(), 1)
	if k.unlogged {
		if b.alters.allow(h.info.who, b.boot()) {
			b.logAltered(h)
		} else {
			b.poke()
		}
	}
	if s := h.info.session; k.unheard && s != nil && !s.away && s.version >= alteredVersion {
		if s.out.behind() { // whoever makes events of it must not have a slow reader's connection closed
			b.changes.postpone(h)
			return
		}
		s.send(0, &wire.Altered{Alterations: []wire.Alteration{k.sum}})
	}
	k.unheard = false
	b.changed()
}

// logAltered writes the sum into the log, if it is not there. The caller holds mu.
func (b *Broker) logAltered(h *hold) {
	k := h.info.changes
	if k == nil || !k.unlogged {
		return
	}
	rec := b.recordOfHold(h, audit.EventAltered)
	rec.Count, rec.Text, rec.Missed = uint64(k.sum.Count), k.sum.Last, k.sum.Missed
	k.unlogged = b.append(&rec) == 0 // the log had no room: perhaps it has when there is more to tell, or at the end
}

// logAllAltered is logAltered of every hold, at the end of a run: the next one has it from the log. The caller holds mu.
func (b *Broker) logAllAltered() {
	for _, h := range b.table.allHolds() {
		b.logAltered(h)
	}
}

// rememberAltered gives a hold of an earlier run what the log says of its files.
func rememberAltered(info *holdInfo, id uint64, a audit.Alteration) {
	if a == (audit.Alteration{}) {
		return
	}
	sum := wire.Alteration{ID: id, Count: uint32(min(a.Count, math.MaxUint32)), Last: wire.Clip(a.Last, wire.MaxText), At: a.At, Missed: a.Missed}
	k := &holdChanges{before: sum, sum: sum}
	k.sum.Lapsed = info.changes != nil && info.changes.sum.Lapsed
	info.changes = k
}

// notable gives what is to be told of a hold's files; false if nothing is. The caller holds mu.
func (h *hold) notable() (wire.Alteration, bool) {
	k := h.info.changes
	if k == nil || k.sum.Count == 0 && !k.sum.Missed && !k.sum.Unwatched && !k.sum.Lapsed {
		return wire.Alteration{}, false
	}
	sum := k.sum
	sum.ID = h.id
	return sum, true
}

// listAltered sends what there is to tell of the holds among the rows, before them.
func (b *Broker) listAltered(s *session, id uint32, rows []wire.Row) {
	if s.version < alteredVersion {
		return
	}
	var all []wire.Alteration
	b.mu.Lock()
	for i := range rows {
		if h := b.table.byID(rows[i].ID); h != nil && rows[i].ID != 0 {
			if a, ok := h.notable(); ok {
				all = append(all, a)
			}
		}
	}
	b.mu.Unlock()
	for len(all) > 0 {
		n := min(len(all), wire.MaxAltered)
		frame, err := wire.Append(nil, id, &wire.Altered{Alterations: all[:n]})
		if err != nil {
			b.logger.Error("alterations do not fit a frame", "error", err)
			return
		}
		s.out.sendInTurn(frame)
		all = all[n:]
	}
}

// sendAltered tells a session that has come back what has become of the files of its holds. Of more than one message takes it hears when
// there is more: the client has not read yet. The caller holds mu.
func (s *session) sendAltered(all []wire.Alteration) {
	if len(all) > 0 && s.version >= alteredVersion {
		s.send(0, &wire.Altered{Alterations: all[:min(len(all), wire.MaxAltered)]})
	}
}
