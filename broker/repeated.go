package broker

import (
	"context"
	"slices"

	"locker/audit"
	"locker/wire"
)

// grantedBefore answers a Lock that is sent again because lockerd was started anew before its answer had arrived: if it was granted
// then, it has what it asked for. All or nothing: a set that was not granted whole was not granted. A lockerd that is killed while it
// grants one may have got as far as some of its files. They are let go here, before anything else is done about the Lock: then there is no way
// to refuse it, or to have it wait, that leaves them behind.
func (b *Broker) grantedBefore(ctx context.Context, s *session, id uint32, m *wire.Lock) *wire.Granted {
	if !s.resumed {
		return nil
	}
	b.mu.Lock()
	g, parts := b.foundOf(s, id, m)
	parts = b.beginEnd(parts)
	var evs []event
	for _, h := range parts {
		// It is the owner's no more: letting go of it may take its time, and the Lock that comes now is not to count on it.
		evs = append(evs, b.moved(b.table.markEnding(h))...)
	}
	b.mu.Unlock()
	more, seq := b.finishEnd(ctx, parts, func(_ *hold, rec *audit.Record) {
		rec.Event, rec.Text = audit.EventRelease, "not granted: lockerd died before it had granted the rest of its set"
	})
	b.commit(seq)
	b.runApart(ctx, append(evs, more...))
	return g
}

// foundOf gives the answer to a Lock that was granted whole, by its number, or else what was granted of it. A set that names a file
// by two names, of which a grant keeps one, is taken for one in parts. The caller holds mu.
func (b *Broker) foundOf(s *session, id uint32, m *wire.Lock) (whole *wire.Granted, parts []*hold) {
	o := owner{uid: s.peer.UID, session: s.id}
	if m.Life == wire.Detached {
		o = owner{uid: s.peer.UID, tag: m.Tag}
	}
	mode, _ := modeOf(m.Mode)
	whole = &wire.Granted{}
	for _, path := range m.Paths {
		holds := b.byPath[path]
		had := func(h *hold) bool { return h.owner == o && h.mode == mode && !h.info.releasing }
		granted := func(h *hold) bool { return had(h) && h.info.by == s.id && h.info.request == id }
		before := func(h *hold) bool { return had(h) && !h.ending }
		i := slices.IndexFunc(holds, granted)
		already := i < 0
		if already {
			i = slices.IndexFunc(holds, before)
		} else {
			parts = append(parts, holds[i])
		}
		if i < 0 {
			whole = nil
		} else if whole != nil {
			h := holds[i]
			whole.Grants = append(whole.Grants, wire.Grant{ID: h.id, Already: already, Rests: h.info.rests, Expires: h.info.expires})
		}
	}
	// What this run has granted it has answered, and what has been asked for again has been, too: a number that comes then is used anew.
	parts = slices.DeleteFunc(parts, func(h *hold) bool { return !h.info.earlier })
	switch {
	case whole == nil:
		return nil, parts
	case len(parts) == 0: // what its owner has is not what it asks for again, or not for the first time
		return nil, nil
	}
	for _, h := range parts {
		h.info.earlier = false
	}
	return whole, nil
}
