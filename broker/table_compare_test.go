package broker

import "slices"

// compare asks both everything.
func (p *tblPair) compare() {
	if err := p.t.check(); err != nil {
		p.fail("check: %v", err)
	}
	keys, uids, owners := map[key]bool{}, map[uint32]bool{}, map[owner]bool{}
	if len(p.m.claims) != len(p.twin) || len(p.t.allWaiting()) != len(p.twin) {
		p.fail("%d claims, model %d, expected %d", len(p.t.allWaiting()), len(p.m.claims), len(p.twin))
	}
	for c, d := range p.twin {
		uids[c.uid], owners[c.owner] = true, true
		for _, k := range c.keys {
			keys[k] = true
		}
		if (c.state == claimPending) != d.pending || !c.inTable() || c.round != d.round {
			p.fail("claim %d: state %d round %d, model pending %v round %d", c.arrival, c.state, c.round, d.pending, d.round)
		}
		if !slices.Equal(p.t.need(c), p.m.needs(d)) {
			p.fail("claim %d needs %v, model %v", c.arrival, p.t.need(c), p.m.needs(d))
		}
		p.compareWait(c, d)
	}
	for _, h := range p.m.holds {
		keys[h.key], uids[h.owner.uid], owners[h.owner] = true, true, true
		if g := p.t.byID(h.id); g == nil || g.key != h.key || g.owner != h.owner || g.mode != h.mode || g.ending != h.ending {
			p.fail("hold %d: %+v, model %+v", h.id, g, h)
		}
	}
	for k := range keys {
		var want []*claim
		for _, d := range p.m.at(k) {
			want = append(want, d.real)
		}
		if got := p.t.queue(k); !tblSameTurn(got, want) {
			p.fail("queue of %v: %v, model %v", k, tblArrivals(got), tblArrivals(want))
		}
		p.compareHolds(p.t.holdsOf(k), func(h *tblHold) bool { return h.key == k })
	}
	for uid := range uids {
		h, n, w := p.m.used(uid, false)
		u := p.t.usages[uid]
		if p.t.countHolds(uid) != h || p.t.countWaiting(uid) != w || u == nil || u.needs != n {
			p.fail("uid %d: %+v, model %d holds %d needs %d waiters", uid, u, h, n, w)
		}
		p.compareHolds(p.t.heldByUID(uid), func(h *tblHold) bool { return h.owner.uid == uid })
	}
	for o := range owners {
		p.compareHolds(p.t.heldBy(o), func(h *tblHold) bool { return h.owner == o })
	}
	if o, found := p.m.anyCycle(); found {
		p.fail("%v waits for itself in the end", o)
	}
	p.compareHolds(p.t.allHolds(), func(*tblHold) bool { return true })
	h, _, w := p.m.used(0, true)
	if p.t.countAllHolds() != h || p.t.countAllWaiting() != w {
		p.fail("%d holds %d waiters, model %d %d", p.t.countAllHolds(), p.t.countAllWaiting(), h, w)
	}
	if len(p.m.holds)+len(p.m.claims) == 0 {
		if err := p.t.empty(); err != nil {
			p.fail("%v", err)
		}
	}
}

// compareWait compares what one claim waits for.
func (p *tblPair) compareWait(c *claim, d *tblClaim) {
	place := 1
	var holds []uint64
	var claims []*claim
	if !d.pending {
		for _, k := range p.m.needs(d) {
			place = max(place, 1+slices.Index(p.m.at(k), d))
			hs, cs := p.m.inWay(d, k)
			for _, h := range hs {
				holds = append(holds, h.id)
			}
			for _, e := range cs {
				if !slices.Contains(claims, e.real) {
					claims = append(claims, e.real)
				}
			}
		}
		if len(holds)+len(claims) == 0 {
			p.fail("claim %d waits for nobody", c.arrival)
		}
	}
	if got := p.t.position(c); got != place {
		p.fail("claim %d: position %d, model %d", c.arrival, got, place)
	}
	gotHolds, gotClaims := p.t.blockers(c, 0)
	var ids []uint64
	for _, h := range gotHolds {
		ids = append(ids, h.id)
	}
	if !slices.Equal(ids, holds) || !tblSame(gotClaims, claims) {
		p.fail("claim %d: blockers %v %v, model %v %v", c.arrival, ids, tblArrivals(gotClaims), holds, tblArrivals(claims))
	}
	someHolds, someClaims := p.t.blockers(c, 2)
	if n := min(2, len(holds)); len(someHolds) != n || len(someClaims) != min(2-n, len(claims)) {
		p.fail("claim %d: %d and %d blockers of at most 2", c.arrival, len(someHolds), len(someClaims))
	}
}

func (p *tblPair) compareHolds(got []*hold, which func(*tblHold) bool) {
	var want []uint64
	for _, h := range p.m.holds {
		if which(h) {
			want = append(want, h.id)
		}
	}
	if !slices.EqualFunc(got, want, func(h *hold, id uint64) bool { return h.id == id }) {
		p.fail("holds %d, model %v", len(got), want)
	}
}

// tblSame compares two lists as sets.
func tblSame(a, b []*claim) bool {
	if len(a) != len(b) {
		return false
	}
	for _, c := range a {
		if !slices.Contains(b, c) {
			return false
		}
	}
	return true
}

// tblSameTurn compares two queues: the pending ones as sets, the others in order.
func tblSameTurn(a, b []*claim) bool {
	n := 0
	for n < len(a) && a[n].state == claimPending {
		n++
	}
	return len(a) == len(b) && tblSame(a[:n], b[:n]) && slices.Equal(a[n:], b[n:])
}

func tblArrivals(cs []*claim) (out []uint64) {
	for _, c := range cs {
		out = append(out, c.arrival)
	}
	return out
}
