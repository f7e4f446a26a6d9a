package broker

import (
	"fmt"
	"slices"
)

// check looks at everything that the table believes about itself, and returns what is not so.
func (t *table) check() error {
	var all usage
	asked := 0
	inFiles := map[*hold]bool{}
	for k, f := range t.byKey {
		var ex, sh uint32
		var last *hold
		for h := f.holds; h != nil; h = h.fileNext {
			if h.key != k || t.ids[h.id] != h || t.parties[h.owner] != h.party {
				return fmt.Errorf("hold %d on %v is not what the table knows", h.id, k)
			}
			if h != f.holds && h.filePrev != last {
				return fmt.Errorf("hold %d on %v: wrong filePrev", h.id, k)
			}
			inFiles[h], last = true, h
			if h.mode == exclusive {
				ex++
			} else {
				sh++
			}
		}
		if f.holds != nil && f.holds.filePrev != last {
			return fmt.Errorf("%v: the first hold does not lead to the last", k)
		}
		if ex != f.exclusive || sh != f.shared {
			return fmt.Errorf("%v: counts %d/%d, has %d/%d", k, f.exclusive, f.shared, ex, sh)
		}
		if f.holds == nil && f.line == nil {
			return fmt.Errorf("%v is remembered for nobody", k)
		}
		if err := f.line.check(f, k); err != nil {
			return err
		}
	}
	if len(inFiles) != len(t.ids) {
		return fmt.Errorf("%d holds by id, %d in files", len(t.ids), len(inFiles))
	}
	for o, p := range t.parties {
		if p.usage == nil || p.usage != t.usages[o.uid] {
			return fmt.Errorf("%v: not the usage of its uid", o)
		}
		var held, ending uint32
		var last *hold
		for h := p.holds; h != nil; h = h.partyNext {
			if h != p.holds && h.partyPrev != last {
				return fmt.Errorf("hold %d: wrong partyPrev", h.id)
			}
			if last = h; h.party != p || !inFiles[h] {
				return fmt.Errorf("hold %d: in the wrong party", h.id)
			}
			held++
			if h.ending {
				ending++
			}
		}
		if held != p.held || ending != p.ending || p.holds != nil && p.holds.partyPrev != last {
			return fmt.Errorf("%v: counts %d (%d ending), has %d (%d)", o, p.held, p.ending, held, ending)
		}
		all.holds += int(held)
		if p.holds == nil && p.claims == nil {
			return fmt.Errorf("%v is remembered for nothing", o)
		}
		for c := p.claims; c != nil; c = c.next {
			if err := t.checkClaim(c, p); err != nil {
				return err
			}
			asked += len(c.keys)
			all.needs += len(c.keys) - c.covered
			if c.state == claimWaiting {
				all.waiters++
			}
		}
	}
	if all != t.all || asked != t.asked {
		return fmt.Errorf("counts %+v asked %d, has %+v %d", t.all, t.asked, all, asked)
	}
	for uid, u := range t.usages {
		n := 0
		for p := u.parties; p != nil; p = p.nextOf {
			if p.nextOf != nil && p.nextOf.prevOf != p {
				return fmt.Errorf("uid %d: wrong prevOf", uid)
			}
			n++
		}
		for o := range t.parties {
			if o.uid == uid {
				n--
			}
		}
		if n != 0 {
			return fmt.Errorf("uid %d: %d parties too many", uid, n)
		}
		all.holds, all.needs, all.waiters = all.holds-u.holds, all.needs-u.needs, all.waiters-u.waiters
	}
	if all != (usage{}) {
		return fmt.Errorf("the uids' counts miss %+v", all)
	}
	if m := &t.moves; len(m.dirty)+len(m.eased)+len(m.suspects)+len(m.events) > 0 {
		return fmt.Errorf("unsettled: %+v", m)
	}
	return nil
}

func (t *table) checkClaim(c *claim, p *party) error {
	if c.party != p || !c.inTable() || len(c.files) != len(c.keys) || c.next != nil && c.next.prev != c {
		return fmt.Errorf("claim %d: wrongly linked", c.arrival)
	}
	covered := 0
	for i, k := range c.keys {
		f := c.files[i]
		if t.byKey[k] != f || f.line == nil {
			return fmt.Errorf("claim %d: not in the line of %v", c.arrival, k)
		}
		if h := t.holdOf(p, f, k); h != nil {
			covered++
			if h.mode != c.mode {
				return fmt.Errorf("claim %d: its owner holds %v in the other mode", c.arrival, k)
			}
		}
		where := f.line.waiting
		if c.state == claimPending {
			where = f.line.pending
		}
		if !slices.Contains(where, c) {
			return fmt.Errorf("claim %d: not where its state says on %v", c.arrival, k)
		}
	}
	if covered != c.covered || covered == len(c.keys) {
		return fmt.Errorf("claim %d: %d of %d keys covered, believes %d", c.arrival, covered, len(c.keys), c.covered)
	}
	if c.state == claimWaiting && t.ready(c) {
		return fmt.Errorf("claim %d waits for nobody", c.arrival)
	}
	return nil
}

func (l *line) check(f *file, k key) error {
	if l == nil {
		return nil
	}
	if len(l.pending)+len(l.waiting) == 0 {
		return fmt.Errorf("%v: an empty line", k)
	}
	ex, tangled := 0, 0
	for i, c := range l.waiting {
		if c.tangled != c.party.tangled() {
			return fmt.Errorf("claim %d: tangled %v", c.arrival, c.tangled)
		}
		if c.tangled {
			tangled++
		}
		if i > 0 && !l.waiting[i-1].before(c) {
			return fmt.Errorf("%v: the line is out of order", k)
		}
		if c.mode == exclusive {
			ex++
		}
	}
	if ex != l.exclusive || tangled != l.tangled {
		return fmt.Errorf("%v: counts %d exclusive and %d tangled waiters, has %d and %d", k, l.exclusive, l.tangled, ex, tangled)
	}
	in := map[uint32]flow{}
	for _, c := range slices.Concat(l.pending, l.waiting) {
		w := in[c.uid]
		in[c.uid] = flow{in: w.in + 1, high: max(w.high, c.round)}
		if !slices.Contains(c.files, f) {
			return fmt.Errorf("%v: claim %d does not know that it is here", k, c.arrival)
		}
	}
	if l.flows == nil && len(l.pending)+len(l.waiting) > 1 {
		return fmt.Errorf("%v: nobody counts the uids", k)
	}
	for uid, w := range l.flows {
		if w.in != in[uid].in || w.in > 0 && w.high != in[uid].high {
			return fmt.Errorf("%v: uid %d counts %+v, has %+v", k, uid, w, in[uid])
		}
	}
	return nil
}

// empty returns what an unused table must not have.
func (t *table) empty() error {
	if len(t.byKey)+len(t.ids)+len(t.parties)+len(t.usages)+t.asked > 0 || t.all != (usage{}) {
		return fmt.Errorf("left over: %d files, %d ids, %d parties, %d uids, %d keys asked, %+v",
			len(t.byKey), len(t.ids), len(t.parties), len(t.usages), t.asked, t.all)
	}
	return nil
}
