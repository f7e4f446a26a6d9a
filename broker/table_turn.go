package broker

import "slices"

// moves is what an operation has stirred up and settle works off.
type moves struct {
	dirty    []*file  // somebody left it, so others may have their turn
	eased    []*claim // their owner got a file of theirs
	suspects []*party // lost something that kept claims of theirs out of a cycle
	events   []event
	shifted  []*claim // have been given later rounds since takeShifted
}

func (m *moves) suspect(p *party) {
	if !slices.Contains(m.suspects, p) {
		m.suspects = append(m.suspects, p)
	}
}

// takeShifted gives the claims that align has given later rounds, some perhaps twice, or gone by now.
func (t *table) takeShifted() []*claim {
	shifted := t.moves.shifted
	t.moves.shifted = nil
	return shifted
}

// settle lets everybody move who can, and returns them.
func (t *table) settle() []event {
	m := &t.moves
	if len(m.suspects) > 0 {
		t.acquitAll()
	}
	eased := t.resolve()
	if len(m.suspects) > 0 {
		t.acquitAll()
	}
	if len(m.dirty) > 0 || len(eased) > 0 {
		t.takeTurns(eased)
	}
	clear(m.dirty)
	m.dirty = m.dirty[:0]
	evs := m.events
	m.events = nil
	return evs
}

// out takes a claim out that is decided, and tells of it.
func (t *table) out(c *claim, v verdict, d detail) {
	t.leave(c)
	t.part(c)
	t.moves.events = append(t.moves.events, event{c: c, v: v, d: d})
}

// resolve decides the claims whose owner has got a file of theirs, and returns the rest of them.
func (t *table) resolve() (eased []*claim) {
	if len(t.moves.eased) == 0 {
		return nil
	}
	slices.SortFunc(t.moves.eased, order)
	for _, c := range slices.Compact(t.moves.eased) {
		if !c.inTable() {
			continue
		}
		holds, v := t.owned(c)
		switch {
		case v != 0:
			t.out(c, v, detail{owned: holds})
		case c.state == claimWaiting:
			eased = append(eased, c)
		}
	}
	t.moves.eased = nil
	return eased
}

func order(a, b *claim) int {
	switch {
	case a == b:
		return 0
	case a.before(b):
		return -1
	}
	return 1
}

// ready reports whether nothing stands between a claim and its files.
func (t *table) ready(c *claim) bool {
	for i, f := range c.files {
		if t.inTheWay(c, f, c.keys[i]) {
			return false
		}
	}
	return true
}

// inTheWay reports whether somebody keeps c from the file k.
func (t *table) inTheWay(c *claim, f *file, k key) bool {
	if c.covered > 0 && t.holdOf(c.party, f, k) != nil {
		return false
	}
	if f.exclusive > 0 || c.mode == exclusive && f.shared > 0 || t.endingHold(c.party, k) {
		return true
	}
	l := f.line
	if l == nil {
		return false
	}
	if t.taken(f, k) {
		return true
	}
	if c.mode == exclusive {
		return len(l.waiting) > 0 && l.waiting[0].before(c)
	}
	first := l.firstExclusive()
	return first != nil && first.before(c)
}

// taken reports whether a pending claim has the file for itself. One whose owner holds the file already does not: it
// has nothing to ask the kernel about it.
func (t *table) taken(f *file, k key) bool {
	for _, p := range f.line.pending {
		if p.covered == 0 || t.holdOf(p.party, f, k) == nil {
			return true
		}
	}
	return false
}

// endingHold reports whether p has a hold on k that is ending: it keeps its own owner out too, in any mode.
func (t *table) endingHold(p *party, k key) bool {
	if p.ending == 0 {
		return false
	}
	for h := p.holds; h != nil; h = h.partyNext {
		if h.key == k && h.ending {
			return true
		}
	}
	return false
}

// takeTurns makes every waiting claim pending that can be, in their order. Only those can that stand at the head of
// a dirty file's line, or whose owner has got a file of theirs.
func (t *table) takeTurns(eased []*claim) {
	eased = slices.DeleteFunc(eased, func(c *claim) bool { return c.state != claimWaiting })
	heads := make([]head, 0, 8)
	for _, f := range t.moves.dirty {
		if f.line != nil && len(f.line.waiting) > 0 {
			heads = append(heads, head{file: f})
		}
	}
	for {
		var next *claim
		if len(eased) > 0 {
			next = eased[0]
		}
		for i := range heads {
			if w := t.candidate(&heads[i]); w != nil && (next == nil || w.before(next)) {
				next = w
			}
		}
		if next == nil {
			return
		}
		if len(eased) > 0 && eased[0] == next {
			eased = eased[1:]
		}
		if t.ready(next) {
			t.setState(next, claimPending)
			t.moves.events = append(t.moves.events, event{c: next, v: pending})
			continue
		}
		for i := range heads {
			if w := t.candidate(&heads[i]); w == next {
				heads[i].passed++
			}
		}
	}
}

// head is how far takeTurns has looked into a line.
type head struct {
	file   *file
	passed int // shared claims that wait for other files of theirs
}

// candidate is the next of h's line whose turn it may be, as far as this file goes.
func (t *table) candidate(h *head) *claim {
	l := h.file.line
	if l == nil || h.passed >= len(l.waiting) {
		return nil
	}
	w := l.waiting[h.passed]
	if w.mode == exclusive && h.passed > 0 || h.file.exclusive > 0 || w.mode == exclusive && h.file.shared > 0 {
		return nil
	}
	if len(l.pending) > 0 && t.taken(h.file, w.keys[slices.Index(w.files, h.file)]) {
		return nil
	}
	return w
}
