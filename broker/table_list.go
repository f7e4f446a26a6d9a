package broker

import (
	"cmp"
	"slices"
)

// position is a claim's place: 1 is next, as is a pending claim; the worst over its files; 0 when it is not in the table.
func (t *table) position(c *claim) int {
	switch c.state {
	case claimPending:
		return 1
	case claimWaiting:
		worst := 0
		for i, f := range c.files {
			if c.covered == 0 || t.holdOf(c.party, f, c.keys[i]) == nil {
				worst = max(worst, len(f.line.pending)+f.line.place(c)+1)
			}
		}
		return worst
	}
	return 0
}

// blockers returns whom a waiting claim waits for, limit in all (0: everybody): first those who hold, the earliest
// first, then the claims ahead of it, the next one first; file by file, and nobody twice.
func (t *table) blockers(c *claim, limit int) (holds []*hold, claims []*claim) {
	if c.state != claimWaiting {
		return nil, nil
	}
	full := func() bool { return limit > 0 && len(holds)+len(claims) >= limit }
	for i, f := range c.files {
		if t.holdOf(c.party, f, c.keys[i]) != nil {
			continue
		}
		for h := f.holds; h != nil && !full(); h = h.fileNext {
			if h.party == c.party || h.mode == exclusive || c.mode == exclusive {
				holds = append(holds, h)
			}
		}
	}
	met := map[*claim]bool{}
	for i, f := range c.files {
		if t.holdOf(c.party, f, c.keys[i]) != nil {
			continue
		}
		for _, w := range f.line.pending {
			if !full() && !met[w] && (w.covered == 0 || t.holdOf(w.party, f, c.keys[i]) == nil) {
				met[w] = true
				claims = append(claims, w)
			}
		}
		for _, w := range f.line.waiting {
			if full() || !w.before(c) {
				break
			}
			if !met[w] && (w.mode == exclusive || c.mode == exclusive) {
				met[w] = true
				claims = append(claims, w)
			}
		}
	}
	return holds, claims
}

// byID returns the hold with this id, or nil.
func (t *table) byID(id uint64) *hold { return t.ids[id] }

// heldBy returns the holds of an owner in the order of their grants, ending ones included.
func (t *table) heldBy(o owner) []*hold {
	p := t.parties[o]
	if p == nil {
		return nil
	}
	var holds []*hold
	for h := p.holds; h != nil; h = h.partyNext {
		holds = append(holds, h)
	}
	return holds
}

// countHeldBy counts the holds of an owner.
func (t *table) countHeldBy(o owner) int {
	if p := t.parties[o]; p != nil {
		return int(p.held)
	}
	return 0
}

// heldByUID returns the holds of a uid's owners by id.
func (t *table) heldByUID(uid uint32) []*hold {
	u := t.usages[uid]
	if u == nil || u.holds == 0 {
		return nil
	}
	holds := make([]*hold, 0, u.holds)
	for p := u.parties; p != nil; p = p.nextOf {
		for h := p.holds; h != nil; h = h.partyNext {
			holds = append(holds, h)
		}
	}
	slices.SortFunc(holds, byID)
	return holds
}

// holdsOf returns a file's holds in the order of their grants.
func (t *table) holdsOf(k key) []*hold {
	f := t.byKey[k]
	if f == nil {
		return nil
	}
	var holds []*hold
	for h := f.holds; h != nil; h = h.fileNext {
		holds = append(holds, h)
	}
	return holds
}

// queue returns a file's claims: pending ones first, then those waiting, the next one first.
func (t *table) queue(k key) []*claim {
	f := t.byKey[k]
	if f == nil || f.line == nil {
		return nil
	}
	return slices.Concat(f.line.pending, f.line.waiting)
}

// pendingOn returns the pending claims of a file. The table's own list: not to be kept.
func (t *table) pendingOn(k key) []*claim {
	f := t.byKey[k]
	if f == nil || f.line == nil {
		return nil
	}
	return f.line.pending
}

func byID(a, b *hold) int { return cmp.Compare(a.id, b.id) }

// allHolds returns every hold by id.
func (t *table) allHolds() []*hold {
	holds := make([]*hold, 0, len(t.ids))
	for _, h := range t.ids {
		holds = append(holds, h)
	}
	slices.SortFunc(holds, byID)
	return holds
}

// allWaiting returns every claim: pending ones first, then those waiting by (round, arrival). The claims of each
// file come in the order of its queue.
func (t *table) allWaiting() []*claim {
	var claims []*claim
	for _, p := range t.parties {
		for c := p.claims; c != nil; c = c.next {
			claims = append(claims, c)
		}
	}
	slices.SortFunc(claims, byTurn)
	return claims
}

// countHolds and countWaiting count those of a uid, pending claims not among them; the others count everybody's.
func (t *table) countHolds(uid uint32) int {
	if u := t.usages[uid]; u != nil {
		return u.holds
	}
	return 0
}

func (t *table) countWaiting(uid uint32) int {
	if u := t.usages[uid]; u != nil {
		return u.waiters
	}
	return 0
}

func (t *table) countAllHolds() int   { return t.all.holds }
func (t *table) countAllWaiting() int { return t.all.waiters }

// files is how many open files the table stands for: one for each hold and for each file of each claim.
func (t *table) files() int { return t.all.holds + t.asked }
