package broker

import "slices"

func (m *tblModel) remove(c *tblClaim) {
	m.claims = slices.DeleteFunc(m.claims, func(d *tblClaim) bool { return d == c })
	for _, k := range c.keys {
		if len(m.at(k)) == 0 {
			delete(m.clock, k)
			delete(m.served, k)
		}
	}
}

func (m *tblModel) grant(c *tblClaim, ids []uint64) []tblEvent {
	keys := m.needs(c)
	m.remove(c)
	for _, k := range c.keys {
		if at := m.at(k); len(at) > 0 {
			round := c.round
			for _, d := range at {
				if !d.pending {
					round = min(round, d.round)
				}
			}
			m.clock[k] = max(m.clock[k], round)
			m.served[k][c.owner.uid] = max(m.served[k][c.owner.uid], round)
		}
	}
	for i, k := range keys {
		m.holds = append(m.holds, &tblHold{id: ids[i], key: k, owner: c.owner, mode: c.mode})
	}
	return m.settle(c.owner)
}

func (m *tblModel) release(id uint64) []tblEvent {
	i := slices.IndexFunc(m.holds, func(h *tblHold) bool { return h.id == id })
	o := m.holds[i].owner
	m.holds = slices.Delete(m.holds, i, i+1)
	return m.settle(o)
}

// settle moves everybody who can move after something happened to o.
func (m *tblModel) settle(o owner) (evs []tblEvent) {
	evs = m.breakCycles(o)
	for moved := true; moved; {
		moved = false
		for _, c := range slices.SortedFunc(slices.Values(m.claims), tblTurn) {
			if _, v := m.owned(c); v != 0 {
				m.remove(c)
				evs, moved = append(evs, tblEvent{c.real, v}), true
			}
		}
	}
	evs = append(evs, m.breakCycles(o)...)
	for moved := true; moved; {
		moved = false
		for _, c := range slices.SortedFunc(slices.Values(m.claims), tblTurn) {
			if !c.pending && m.ready(c) {
				c.pending, moved = true, true
				evs = append(evs, tblEvent{c.real, pending})
				break
			}
		}
	}
	return evs
}

// breakCycles sends the newest claims of o away that wait for o in the end.
func (m *tblModel) breakCycles(o owner) (evs []tblEvent) {
	for again := true; again; {
		again = false
		sorted := slices.SortedFunc(slices.Values(m.claims), tblTurn)
		for _, c := range slices.Backward(sorted) {
			if c.owner == o && !c.pending && m.wayBack(o, c) > 0 {
				m.remove(c)
				evs, again = append(evs, tblEvent{c.real, deadlock}), true
				break
			}
		}
	}
	return evs
}

func (m *tblModel) rekey(c *tblClaim, keys []key) (v verdict, ids []uint64, cycle int, evs []tblEvent) {
	old, round, needed := c.keys, c.round, len(m.needs(c))
	m.remove(c)
	evs = m.breakCycles(c.owner)
	c.keys = keys
	if ids, v = m.owned(c); v != 0 {
		return v, ids, 0, append(evs, m.settle(c.owner)...)
	}
	if n := len(m.needs(c)); n > needed && m.overHolds(c.owner.uid, n) {
		return quotaHolds, ids, 0, append(evs, m.settle(c.owner)...)
	}
	var fresh []key
	kept := uint64(1)
	for _, k := range keys {
		if slices.Contains(old, k) {
			kept = round
		} else {
			fresh = append(fresh, k)
		}
	}
	limits := m.limits
	m.limits.waiters, m.limits.waitersAll = 1<<30, 1<<30
	v = m.enter(c, fresh, kept, true)
	m.limits = limits
	cycle = m.lastCycle(c)
	return v, ids, cycle, append(evs, m.settle(c.owner)...)
}
