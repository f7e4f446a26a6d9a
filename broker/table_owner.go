package broker

import "slices"

// partyOf finds or makes the party of an owner.
func (t *table) partyOf(o owner) *party {
	p := t.parties[o]
	if p != nil {
		return p
	}
	u := t.usages[o.uid]
	if u == nil {
		u = &usage{}
		t.usages[o.uid] = u
	}
	p = &party{usage: u, nextOf: u.parties}
	if p.nextOf != nil {
		p.nextOf.prevOf = p
	}
	u.parties = p
	t.parties[o] = p
	return p
}

// dropParty forgets an owner who neither holds nor claims anything.
func (t *table) dropParty(o owner, p *party) {
	if p.holds != nil || p.claims != nil {
		return
	}
	delete(t.parties, o)
	if p.nextOf != nil {
		p.nextOf.prevOf = p.prevOf
	}
	if p.prevOf != nil {
		p.prevOf.nextOf = p.nextOf
	} else if p.usage.parties = p.nextOf; p.nextOf == nil {
		delete(t.usages, o.uid)
	}
}

// join enters c among its owner's claims and counts what it needs.
func (t *table) join(c *claim) {
	p := t.partyOf(c.owner)
	c.party, c.prev, c.next = p, nil, p.claims
	if c.next != nil {
		c.next.prev = c
	}
	p.claims = c
	p.retangle()
	c.covered = 0
	if p.held > p.ending {
		for i := range c.keys {
			if t.holdOf(p, t.byKey[c.keys[i]], c.keys[i]) != nil {
				c.covered++
			}
		}
	}
	t.countNeed(p, len(c.keys)-c.covered)
}

// part undoes join.
func (t *table) part(c *claim) {
	p := c.party
	t.countNeed(p, c.covered-len(c.keys))
	if c.next != nil {
		c.next.prev = c.prev
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		p.claims = c.next
	}
	p.retangle()
	c.party, c.prev, c.next = nil, nil, nil
	if c.state != claimGranted {
		c.state = claimGone
	}
	t.dropParty(c.owner, p)
}

// holdOf is the hold of p on a file, ending ones left out, or nil. There is one at most.
func (t *table) holdOf(p *party, f *file, k key) *hold {
	if f == nil || p.held == p.ending {
		return nil
	}
	if f.exclusive+f.shared <= p.held {
		for h := f.holds; h != nil; h = h.fileNext {
			if h.party == p && !h.ending {
				return h
			}
		}
		return nil
	}
	for h := p.holds; h != nil; h = h.partyNext {
		if h.key == k && !h.ending {
			return h
		}
	}
	return nil
}

// covering returns the hold of the claim's owner on c.keys[i], ending ones left out, or nil.
func (t *table) covering(c *claim, i int) *hold {
	p := t.parties[c.owner]
	if p == nil {
		return nil
	}
	return t.holdOf(p, t.byKey[c.keys[i]], c.keys[i])
}

// need returns the keys that the claim's owner does not hold now, in key order: those for which a pending claim asks
// the kernel, and for which grant wants ids. It can change while a claim is pending, because its owner released a file
// of it or got one through another claim: look again, under the mutex, right before grant.
func (t *table) need(c *claim) []key {
	if c.covered == 0 && c.inTable() {
		return c.keys
	}
	var keys []key
	for i, k := range c.keys {
		if t.covering(c, i) == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// owned returns the holds that c's owner has on c's files, and satisfied or conversion if that decides.
func (t *table) owned(c *claim) (holds []*hold, v verdict) {
	if c.covered == 0 {
		return nil, 0
	}
	for i := range c.keys {
		if h := t.covering(c, i); h != nil {
			holds = append(holds, h)
			if h.mode != c.mode {
				v = conversion
			}
		}
	}
	if v == 0 && c.covered == len(c.keys) {
		v = satisfied
	}
	return holds, v
}

// has reports whether k is one of the claim's files.
func (c *claim) has(k key) bool {
	_, found := slices.BinarySearchFunc(c.keys, k, compareKeys)
	return found
}

// cover tells the owner's claims that he holds k now, and uncover that he does not any more.
func (t *table) cover(p *party, k key) {
	for c := p.claims; c != nil; c = c.next {
		if c.has(k) {
			c.covered++
			t.countNeed(p, -1)
			t.moves.eased = append(t.moves.eased, c)
		}
	}
}

func (t *table) uncover(p *party, k key) {
	for c := p.claims; c != nil; c = c.next {
		if c.has(k) {
			c.covered--
			t.countNeed(p, 1)
			t.moves.suspect(p)
		}
	}
}
