package broker

import "slices"

// grant makes a pending claim into holds, one per key of need(c), with ids in that order; info is the caller's to set.
// It returns them and who else moves.
func (t *table) grant(c *claim, ids []uint64) ([]*hold, []event) {
	if c.state != claimPending {
		panic("lock table: grant of a claim that is not pending")
	}
	keys := slices.Clone(t.need(c))
	if len(ids) != len(keys) || len(keys) == 0 {
		panic("lock table: grant with more or fewer ids than files needed")
	}
	p := c.party
	t.stop(c, true)
	t.moves.dirty = append(t.moves.dirty, c.files...)
	c.state = claimGranted
	holds := make([]*hold, len(keys))
	for i, k := range keys {
		f := t.byKey[k]
		if f.exclusive > 0 || c.mode == exclusive && f.shared > 0 {
			panic("lock table: grant of a file that somebody holds")
		}
		h := &hold{id: ids[i], key: k, owner: c.owner, uid: c.uid, mode: c.mode}
		t.hold(h, p, f)
		holds[i] = h
	}
	t.shut(c)
	t.part(c)
	for _, h := range holds {
		t.cover(p, h.key)
	}
	return holds, t.settle()
}

// restore enters a hold from the log, at start, before any claim. Nothing is checked: the log says that it was granted.
func (t *table) restore(h *hold) {
	if t.asked > 0 {
		panic("lock table: restore after a claim")
	}
	f := t.byKey[h.key]
	if f == nil {
		f = &file{}
		t.byKey[h.key] = f
	}
	t.hold(h, t.partyOf(h.owner), f)
}

// restoreClaim enters a claim of an earlier run at the place that it had, waiting, after all holds and before anybody else.
// Call them in the order of their places, and then settle.
func (t *table) restoreClaim(c *claim, round, arrival uint64) {
	c.check()
	t.join(c)
	t.open(c)
	c.round, c.arrival = round, arrival
	t.arrivals = max(t.arrivals, arrival)
	t.start(c, claimWaiting)
	t.moves.dirty = append(t.moves.dirty, c.files...)
}

// coveredWhole reports whether the owner of a claim that is not in the table holds all of its files.
func (t *table) coveredWhole(c *claim) bool {
	for i := range c.keys {
		if t.covering(c, i) == nil {
			return false
		}
	}
	return true
}

// hold enters h among the holds of its file and its owner.
func (t *table) hold(h *hold, p *party, f *file) {
	if t.ids[h.id] != nil {
		panic("lock table: two holds with one id")
	}
	t.ids[h.id] = h
	h.party = p
	if f.holds == nil {
		f.holds, h.filePrev = h, h
	} else {
		last := f.holds.filePrev
		last.fileNext, h.filePrev, f.holds.filePrev = h, last, h
	}
	if p.holds == nil {
		p.holds, h.partyPrev = h, h
	} else {
		last := p.holds.partyPrev
		last.partyNext, h.partyPrev, p.holds.partyPrev = h, last, h
	}
	p.held++
	if h.ending {
		p.ending++
	}
	if h.mode == exclusive {
		f.exclusive++
	} else {
		f.shared++
	}
	t.countHold(p, 1)
}

// release ends a hold and returns who moves. Nothing happens when it has ended already.
func (t *table) release(h *hold) []event {
	if t.ids[h.id] != h {
		return nil
	}
	f, p := t.byKey[h.key], h.party
	delete(t.ids, h.id)
	if h == f.holds {
		f.holds = h.fileNext
	} else {
		h.filePrev.fileNext = h.fileNext
	}
	if h.fileNext != nil {
		h.fileNext.filePrev = h.filePrev
	} else if f.holds != nil {
		f.holds.filePrev = h.filePrev
	}
	if h == p.holds {
		p.holds = h.partyNext
	} else {
		h.partyPrev.partyNext = h.partyNext
	}
	if h.partyNext != nil {
		h.partyNext.partyPrev = h.partyPrev
	} else if p.holds != nil {
		p.holds.partyPrev = h.partyPrev
	}
	h.fileNext, h.filePrev, h.partyNext, h.partyPrev, h.party = nil, nil, nil, nil, nil
	p.held--
	if h.mode == exclusive {
		f.exclusive--
	} else {
		f.shared--
	}
	p.retangle()
	t.countHold(p, -1)
	if h.ending {
		p.ending--
	} else {
		t.uncover(p, h.key)
	}
	t.dropParty(h.owner, p)
	t.drop(h.key, f)
	t.moves.dirty = append(t.moves.dirty, f)
	return t.settle()
}

// markEnding says that a hold is broken or expired and in its grace. It still keeps everybody out, its owner's other
// claims included, and no longer counts as had by him. Never set hold.ending otherwise.
func (t *table) markEnding(h *hold) []event {
	if t.ids[h.id] != h || h.ending {
		return nil
	}
	h.ending = true
	h.party.ending++
	t.uncover(h.party, h.key)
	return t.settle()
}
