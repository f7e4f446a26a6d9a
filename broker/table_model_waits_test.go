package broker

import "slices"

// inWay lists who keeps c from k.
func (m *tblModel) inWay(c *tblClaim, k key) (holds []*tblHold, claims []*tblClaim) {
	if m.held(c.owner, k) != nil {
		return nil, nil
	}
	for _, h := range m.holds {
		if h.key == k && (h.owner == c.owner || tblConflict(h.mode, c.mode)) {
			holds = append(holds, h)
		}
	}
	for _, d := range m.at(k) {
		switch {
		case d == c:
		case d.pending && m.held(d.owner, k) == nil, !d.pending && tblConflict(c.mode, d.mode) && tblBefore(d, c):
			claims = append(claims, d)
		}
	}
	return holds, claims
}

func (m *tblModel) ready(c *tblClaim) bool {
	for _, k := range c.keys {
		if h, d := m.inWay(c, k); len(h)+len(d) > 0 {
			return false
		}
	}
	return true
}

// waitsFor lists the owners for whom o waits through the claims in some (nil: all of o's).
func (m *tblModel) waitsFor(o owner, some *tblClaim) map[owner]bool {
	out := map[owner]bool{}
	for _, c := range m.claims {
		if c.owner != o || c.pending || some != nil && c != some {
			continue
		}
		for _, k := range m.needs(c) {
			if i := slices.IndexFunc(m.at(k), func(d *tblClaim) bool { return d.owner == o }); m.at(k)[i] != c {
				continue // not o's foremost there
			}
			holds, claims := m.inWay(c, k)
			for _, h := range holds {
				if !h.ending {
					out[h.owner] = true
				}
			}
			for _, d := range claims {
				if tblConflict(c.mode, d.mode) {
					out[d.owner] = true
				}
			}
		}
	}
	delete(out, o)
	return out
}

// wayBack is the length of the shortest way from o over those it waits for back to o; 0: there is none.
func (m *tblModel) wayBack(o owner, some *tblClaim) int {
	seen := map[owner]bool{}
	ring := m.waitsFor(o, some)
	for n := 1; len(ring) > 0; n++ {
		next := map[owner]bool{}
		for p := range ring {
			if p == o {
				return n
			}
			if !seen[p] {
				seen[p] = true
				for q := range m.waitsFor(p, nil) {
					next[q] = true
				}
			}
		}
		ring = next
	}
	return 0
}

// anyCycle looks for an owner who waits for himself in the end: whoever is left when those who wait for nobody (who is
// left) have been taken away, one after another.
func (m *tblModel) anyCycle() (owner, bool) {
	waits := map[owner]map[owner]bool{}
	for _, c := range m.claims {
		if waits[c.owner] == nil {
			waits[c.owner] = m.waitsFor(c.owner, nil)
		}
	}
	for again := true; again; {
		again = false
		for o, whom := range waits {
			for p := range whom {
				if waits[p] == nil {
					delete(whom, p)
				}
			}
			if len(whom) == 0 {
				delete(waits, o)
				again = true
			}
		}
	}
	for o := range waits {
		return o, true
	}
	return owner{}, false
}

// align: see table.align.
func (m *tblModel) align(keys []key) {
	live := slices.DeleteFunc(slices.Clone(keys), func(k key) bool { return len(m.at(k)) == 0 })
	top := uint64(0)
	for _, k := range live {
		top = max(top, m.clock[k])
	}
	for _, k := range live {
		if m.clock[k] == top {
			continue
		}
		part := map[key]bool{k: true}
		for grown := true; grown; {
			grown = false
			for _, c := range m.claims {
				if slices.ContainsFunc(c.keys, func(k key) bool { return part[k] }) {
					for _, k := range c.keys {
						grown = grown || !part[k]
						part[k] = true
					}
				}
			}
		}
		ahead := uint64(0)
		for _, k := range live {
			if part[k] {
				ahead = max(ahead, m.clock[k])
			}
		}
		for _, c := range m.claims {
			if part[c.keys[0]] {
				c.round += top - ahead
			}
		}
		for k := range part {
			m.clock[k] += top - ahead
			for uid := range m.served[k] {
				m.served[k][uid] += top - ahead
			}
		}
	}
}
