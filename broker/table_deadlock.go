package broker

import "slices"

// Owners wait for each other: an owner with a waiting claim waits for the owners of the holds in its way and of the
// claims ahead of it that it conflicts with. A cycle of owners would wait for ever, so whoever would close one is
// refused. What ends by itself is no reason to refuse: a hold that is ending, the kernel's answer to a pending claim
// that one does not conflict with.
//
// Of several claims of an owner on one file only the foremost counts: when that is granted, the others are satisfied
// or refused at once.

// mayCloseCycle reports whether c, which has just come into its lines, needs a search. Not if its owner waits for
// nobody, or if nobody waits for him: he holds nothing, has no other claim, and nobody stands behind this one.
func (t *table) mayCloseCycle(c *claim) bool {
	p := c.party
	alone := p.claims == c && c.next == nil
	if c.state == claimPending && alone {
		return false
	}
	if c.state == claimWaiting && (!alone || p.held > p.ending) {
		return true
	}
	for _, f := range c.files {
		if l := f.line; l.tangled > 0 && l.waiting[len(l.waiting)-1] != c {
			return true // it came in front of others
		}
	}
	return false
}

// tangled reports whether anybody can wait for p while p waits for others. All that others can want of one who is not
// (he has a single claim, on a single file, and holds nothing) is his place in that line, so nobody in front of him
// waits for him.
func (p *party) tangled() bool {
	return p.held > 0 || p.claims != nil && (p.claims.next != nil || len(p.claims.keys) > 1)
}

// retangle brings what the lines count up to date after p has got or lost a hold or a claim.
func (p *party) retangle() {
	if p.claims == nil || p.claims.next != nil && p.claims.next.next != nil {
		return // with three claims nothing has changed: with two they were tangled
	}
	is := p.tangled()
	for c := p.claims; c != nil; c = c.next {
		if c.state != claimWaiting || c.tangled == is {
			continue
		}
		c.tangled = is
		for _, f := range c.files {
			if is {
				f.line.tangled++
			} else {
				f.line.tangled--
			}
		}
	}
}

// inOrder returns the claims of p: pending ones first, then those waiting in their order.
func (p *party) inOrder() []*claim {
	var claims []*claim
	for c := p.claims; c != nil; c = c.next {
		claims = append(claims, c)
	}
	slices.SortFunc(claims, byTurn)
	return claims
}

func byTurn(a, b *claim) int {
	if (a.state == claimPending) != (b.state == claimPending) {
		if a.state == claimPending {
			return -1
		}
		return 1
	}
	return order(a, b)
}

// search is a walk, breadth first, from an owner along those whom he waits for. It visits each owner once, and
// each place in each line twice at most.
type search struct {
	t     *table
	from  *party
	only  *claim // start with what this claim waits for; nil: with all claims of from
	steps []step // owners found, in the order in which they are followed
}

// step is how the search came to an owner: by a link from the owner of an earlier step.
type step struct {
	party *party
	prev  int
	link  link
}

// depth is how far a search has followed a file's holders and line.
type depth struct {
	search                    uint64 // which; another one begins anew
	holders, exclusiveHolders bool
	all, exclusive            int // of line.waiting
	pending                   [shared + 1]bool
}

// cycle returns the shortest way from p, over those for whom its claims (or just the one given) wait, back to p; or nil.
func (t *table) cycle(p *party, only *claim) []link {
	t.searches++
	s := search{t: t, from: p, only: only, steps: []step{{party: p}}}
	for i := 0; i < len(s.steps); i++ {
		last, found := s.follow(i)
		if !found {
			continue
		}
		way := []link{last}
		for ; i > 0; i = s.steps[i].prev {
			way = append(way, s.steps[i].link)
		}
		slices.Reverse(way)
		return way
	}
	return nil
}

// follow looks at all for whom the owner of step i waits. found: last leads back to where the search began.
func (s *search) follow(i int) (last link, found bool) {
	p := s.steps[i].party
	one := [1]*claim{p.claims}
	claims := one[:]
	var foremost map[key]bool
	if p.claims.next != nil {
		claims, foremost = p.inOrder(), map[key]bool{}
	}
	for _, c := range claims {
		for j, f := range c.files {
			k := c.keys[j]
			if foremost != nil {
				if foremost[k] {
					continue
				}
				foremost[k] = true
			}
			if c.state == claimPending || i == 0 && s.only != nil && c != s.only {
				continue
			}
			if c.covered > 0 && s.t.holdOf(p, f, k) != nil {
				continue
			}
			if last, found = s.lookAt(i, c, f, k); found {
				return last, true
			}
		}
	}
	return link{}, false
}

// lookAt notes the owners who keep the waiting claim c, of step i, from file k and have not been met.
func (s *search) lookAt(i int, c *claim, f *file, k key) (last link, found bool) {
	d := &f.line.depth
	if d.search != s.t.searches {
		*d = depth{search: s.t.searches}
	}
	alone := c.mode == exclusive
	if !d.holders && (alone || !d.exclusiveHolders) {
		d.holders, d.exclusiveHolders = alone, true
		for h := f.holds; h != nil; h = h.fileNext {
			if h.ending || !alone && h.mode != exclusive || h.party.claims == nil {
				continue // not in the way for ever, not in the way, waits for nobody
			}
			if l := (link{owner: h.owner, key: k, hold: h}); s.meet(i, h.party, l) {
				return l, true
			}
		}
	}
	if !d.pending[c.mode] {
		d.pending[c.mode] = true
		for _, w := range f.line.pending {
			if alone || w.mode == exclusive {
				if l := (link{owner: w.owner, key: k, claim: w}); s.meet(i, w.party, l) {
					return l, true
				}
			}
		}
	}
	n, end := d.all, f.line.place(c)
	if !alone {
		n = max(d.all, d.exclusive)
	}
	for ; n < end; n++ {
		w := f.line.waiting[n]
		if !alone && w.mode != exclusive {
			continue
		}
		if alone && w.next == nil && w.prev == nil && len(w.keys) == 1 && w.party != s.from {
			continue // waits for nobody but those in front of it here, whom this loop meets anyway
		}
		if l := (link{owner: w.owner, key: k, claim: w}); s.meet(i, w.party, l) {
			return l, true
		}
	}
	if alone {
		d.all = max(d.all, end)
	} else {
		d.exclusive = max(d.exclusive, end)
	}
	return link{}, false
}

// meet notes that the owner of step i waits for p, and reports whether p is where the search began.
func (s *search) meet(i int, p *party, l link) bool {
	if p == s.from {
		return i > 0 // an owner's own claims do not deadlock with each other
	}
	if p.claims != nil && p.claims.met != s.t.searches {
		p.claims.met = s.t.searches
		s.steps = append(s.steps, step{party: p, prev: i, link: l})
	}
	return false
}
