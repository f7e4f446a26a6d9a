package broker

import (
	"cmp"
	"slices"
)

// tblModel is the lock table once more, as plainly as it can be said: two slices, and every question answered by
// looking at all of both. It shares nothing with the table but the types of keys, owners and verdicts.
type tblModel struct {
	limits limits
	holds  []*tblHold
	claims []*tblClaim // waiting and pending
	clock  map[key]uint64
	served map[key]map[uint32]uint64
	count  uint64
}

type tblHold struct {
	id     uint64
	key    key
	owner  owner
	mode   mode
	ending bool
}

type tblClaim struct {
	real           *claim // its name; never looked into
	owner          owner
	mode           mode
	keys           []key
	pending        bool
	round, arrival uint64
}

type tblEvent struct {
	real *claim
	v    verdict
}

func tblNewModel(l limits) *tblModel {
	return &tblModel{limits: l, clock: map[key]uint64{}, served: map[key]map[uint32]uint64{}}
}

func tblConflict(a, b mode) bool { return a == exclusive || b == exclusive }

func (m *tblModel) held(o owner, k key) *tblHold {
	for _, h := range m.holds {
		if h.owner == o && h.key == k && !h.ending {
			return h
		}
	}
	return nil
}

func (m *tblModel) needs(c *tblClaim) (keys []key) {
	for _, k := range c.keys {
		if m.held(c.owner, k) == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

func tblBefore(a, b *tblClaim) bool {
	return a.round < b.round || a.round == b.round && a.arrival < b.arrival
}

func (m *tblModel) at(k key) (claims []*tblClaim) {
	for _, c := range m.claims {
		if slices.Contains(c.keys, k) {
			claims = append(claims, c)
		}
	}
	slices.SortFunc(claims, tblTurn)
	return claims
}

func tblTurn(a, b *tblClaim) int {
	if a.pending != b.pending {
		if a.pending {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.round, b.round), cmp.Compare(a.arrival, b.arrival))
}

func (m *tblModel) owned(c *tblClaim) (ids []uint64, v verdict) {
	for _, k := range c.keys {
		if h := m.held(c.owner, k); h != nil {
			ids = append(ids, h.id)
			if h.mode != c.mode {
				v = conversion
			}
		}
	}
	if v == 0 && len(ids) == len(c.keys) {
		v = satisfied
	}
	return ids, v
}

// used counts what the uid, or with all everybody, holds and needs.
func (m *tblModel) used(uid uint32, all bool) (holds, needs, waiters int) {
	for _, h := range m.holds {
		if all || h.owner.uid == uid {
			holds++
		}
	}
	for _, c := range m.claims {
		if all || c.owner.uid == uid {
			needs += len(m.needs(c))
			if !c.pending {
				waiters++
			}
		}
	}
	return holds, needs, waiters
}

func (m *tblModel) usable(uid uint32, all int) int {
	if uid != 0 {
		all -= all / 32
	}
	return all
}

func (m *tblModel) add(c *tblClaim, wait bool) (v verdict, ids []uint64, cycle int) {
	ids, v = m.owned(c)
	if v != 0 {
		return v, ids, 0
	}
	if m.overHolds(c.owner.uid, len(m.needs(c))) {
		return quotaHolds, ids, 0
	}
	m.align(c.keys)
	m.count++
	c.arrival = m.count
	return m.enter(c, c.keys, 1, wait), ids, m.lastCycle(c)
}

// overHolds reports whether n holds more are more than the uid or all may have.
func (m *tblModel) overHolds(uid uint32, n int) bool {
	h, w, _ := m.used(uid, false)
	ah, aw, _ := m.used(uid, true)
	return h+w+n > m.limits.holds || ah+aw+n > m.usable(uid, m.limits.holdsAll)
}

// lastCycle is the length of the cycle that c, which is not in the model, would close by waiting.
func (m *tblModel) lastCycle(c *tblClaim) int {
	if slices.Contains(m.claims, c) {
		return 0
	}
	m.claims = append(m.claims, c)
	n := m.wayBack(c.owner, nil)
	m.claims = slices.DeleteFunc(m.claims, func(d *tblClaim) bool { return d == c })
	return n
}

func (m *tblModel) enter(c *tblClaim, fresh []key, round uint64, wait bool) verdict {
	c.pending, c.round = false, round
	for _, k := range fresh {
		if at := m.at(k); len(at) > 0 {
			last := m.served[k][c.owner.uid]
			for _, d := range at {
				if d.owner.uid == c.owner.uid {
					last = max(last, d.round)
				}
			}
			c.round = max(c.round, m.clock[k], last+1)
		}
	}
	uid := c.owner.uid
	switch _, _, n := m.used(uid, false); {
	case m.ready(c):
		if c.pending = true; m.lastCycle(c) > 0 {
			return deadlock // it passes others whom its owner waits for
		}
	case !wait:
		return blocked
	case m.allWaiters() >= m.usable(uid, m.limits.waitersAll) || n >= m.limits.waiters:
		return quotaWaiters
	case m.lastCycle(c) > 0:
		return deadlock
	}
	for _, k := range c.keys {
		if len(m.at(k)) == 0 {
			m.clock[k], m.served[k] = c.round, map[uint32]uint64{}
		}
	}
	m.claims = append(m.claims, c)
	if c.pending {
		return pending
	}
	return queued
}

func (m *tblModel) allWaiters() int {
	_, _, n := m.used(0, true)
	return n
}
