package broker

import (
	"fmt"
	"slices"
	"testing"
)

// tblPair does everything to a table and to the model, and compares all that can be asked after every step.
type tblPair struct {
	tb      testing.TB
	t       *table
	m       *tblModel
	twin    map[*claim]*tblClaim
	nextID  uint64
	log     []func() string
	met     map[tblMet]int // what has happened, for runs that claim to cover everything
	moved   []event        // all events, for scripts to look at; and the last verdict
	verdict verdict
	found   detail
}

// tblMet is a verdict and how it was given: "add", "try", "rekey" or "event".
type tblMet struct {
	how string
	v   verdict
}

func tblNewPair(tb testing.TB, l limits) *tblPair {
	return &tblPair{tb: tb, t: newTable(l), m: tblNewModel(l), twin: map[*claim]*tblClaim{}, met: map[tblMet]int{}}
}

func (p *tblPair) fail(format string, args ...any) {
	p.tb.Helper()
	for _, say := range p.log[max(0, len(p.log)-60):] {
		p.tb.Log(say())
	}
	p.tb.Fatalf(format, args...)
}

// note is put into words only when something has failed.
func (p *tblPair) note(format string, args ...any) {
	p.log = append(p.log, func() string { return fmt.Sprintf(format, args...) })
}

func (p *tblPair) add(o owner, m mode, keys []key, wait bool) (*claim, verdict) {
	c := &claim{owner: o, uid: o.uid, mode: m, keys: keys}
	d := &tblClaim{real: c, owner: o, mode: m, keys: keys}
	try, how := p.t.add, "add"
	if !wait {
		try, how = p.t.tryAdd, "try"
	}
	v, det := try(c)
	want, ids, cycle := p.m.add(d, wait)
	p.note("add %v mode %d keys %v wait %v: %d as claim %d round %d", o, m, keys, wait, v, c.arrival, c.round)
	p.judge(how, v, det, want, ids, cycle, o)
	if c.inTable() {
		p.twin[c] = d
	}
	p.compare()
	return c, v
}

// judge compares one verdict.
func (p *tblPair) judge(how string, v verdict, d detail, want verdict, ids []uint64, cycle int, o owner) {
	p.tb.Helper()
	p.met[tblMet{how, v}]++
	p.verdict, p.found = v, d
	if v != want {
		p.fail("verdict %d, the model says %d", v, want)
	}
	var got []uint64
	for _, h := range d.owned {
		got = append(got, h.id)
	}
	if !slices.Equal(got, ids) {
		p.fail("owned %v, the model says %v", got, ids)
	}
	if v == deadlock != (len(d.cycle) > 0) || v == deadlock && len(d.cycle) != cycle {
		p.fail("verdict %d with a cycle of %d, the model says %d", v, len(d.cycle), cycle)
	}
	if n := len(d.cycle); n > 0 && d.cycle[n-1].owner != o {
		p.fail("the cycle does not end with %v: %v", o, d.cycle)
	}
	for i, l := range d.cycle {
		if (l.hold == nil) == (l.claim == nil) || l.hold != nil && l.hold.owner != l.owner || l.claim != nil && l.claim.owner != l.owner {
			p.fail("link %d of the cycle is malformed: %v", i, l)
		}
	}
}

// events compares who moved.
func (p *tblPair) events(got []event, want []tblEvent) {
	p.tb.Helper()
	p.moved = append(p.moved, got...)
	for _, e := range got {
		p.note("  claim %d: %d", e.c.arrival, e.v)
		p.met[tblMet{"event", e.v}]++
		i := slices.Index(want, tblEvent{e.c, e.v})
		if i < 0 {
			p.fail("claim %d moved with %d, in the model it did not", e.c.arrival, e.v)
		}
		want = slices.Delete(slices.Clone(want), i, i+1)
		if d := p.twin[e.c]; d != nil && d.pending && e.v != pending {
			p.fail("claim %d: event %d while it was pending", e.c.arrival, e.v)
		}
		if e.v != pending && e.c.inTable() || e.v == pending && e.c.state != claimPending {
			p.fail("claim %d: event %d, state %d", e.c.arrival, e.v, e.c.state)
		}
		if e.v == deadlock != (len(e.d.cycle) > 0) || (e.v == satisfied || e.v == conversion) != (len(e.d.owned) > 0) {
			p.fail("claim %d: event %d with detail %v", e.c.arrival, e.v, e.d)
		}
		if !e.c.inTable() {
			delete(p.twin, e.c)
		}
	}
	if len(want) > 0 {
		p.fail("in the model %d claims more moved; the first: %d with %d", len(want), want[0].real.arrival, want[0].v)
	}
}

func (p *tblPair) grant(c *claim) []*hold {
	need := p.t.need(c)
	var ids []uint64
	for range need {
		p.nextID++
		ids = append(ids, p.nextID)
	}
	p.note("grant claim %d: %v", c.arrival, ids)
	holds, evs := p.t.grant(c, ids)
	d := p.twin[c]
	delete(p.twin, c)
	if c.state != claimGranted {
		p.fail("granted, but in state %d", c.state)
	}
	for i, h := range holds {
		if h.id != ids[i] || h.key != need[i] || h.owner != c.owner || h.mode != c.mode || h.uid != c.uid {
			p.fail("grant of %v gave %+v", need, h)
		}
	}
	p.events(evs, p.m.grant(d, ids))
	p.compare()
	return holds
}

// grantable: a hold of its own owner that is ending may still be in the way of a pending claim; the kernel says busy then.
func (p *tblPair) grantable(c *claim) bool {
	for _, k := range p.t.need(c) {
		for _, h := range p.t.holdsOf(k) {
			if tblConflict(h.mode, c.mode) {
				return false
			}
		}
	}
	return true
}

func (p *tblPair) abandon(c *claim) {
	p.note("abandon claim %d", c.arrival)
	d := p.twin[c]
	delete(p.twin, c)
	evs := p.t.abandon(c)
	p.m.remove(d)
	p.events(evs, p.m.settle(d.owner))
	p.compare()
}

func (p *tblPair) release(h *hold) {
	p.note("release %d", h.id)
	p.events(p.t.release(h), p.m.release(h.id))
	if p.t.byID(h.id) != nil || p.t.release(h) != nil {
		p.fail("hold %d was released and is still there", h.id)
	}
	p.compare()
}

func (p *tblPair) markEnding(h *hold) {
	p.note("mark %d ending", h.id)
	evs := p.t.markEnding(h)
	for _, g := range p.m.holds {
		if g.id == h.id {
			g.ending = true
		}
	}
	p.events(evs, p.m.settle(h.owner))
	p.compare()
}

func (p *tblPair) restore(o owner, m mode, k key) {
	p.nextID++
	p.note("restore %d: %v mode %d key %v", p.nextID, o, m, k)
	p.t.restore(&hold{id: p.nextID, key: k, owner: o, uid: o.uid, mode: m})
	p.m.holds = append(p.m.holds, &tblHold{id: p.nextID, key: k, owner: o, mode: m})
	p.compare()
}

func (p *tblPair) rekey(c *claim, keys []key) {
	p.note("rekey claim %d to %v", c.arrival, keys)
	d := p.twin[c]
	v, det, evs := p.t.rekey(c, keys)
	want, ids, cycle, moved := p.m.rekey(d, keys)
	p.note("  -> %d round %d", v, c.round)
	p.judge("rekey", v, det, want, ids, cycle, c.owner)
	if !c.inTable() {
		delete(p.twin, c)
	}
	p.events(evs, moved)
	p.compare()
}

func (p *tblPair) setLimits(l limits) {
	p.t.setLimits(l)
	p.m.limits = l
}

// claims are those in the table, in a fixed order; holds likewise.
func (p *tblPair) claims() []*claim { return p.t.allWaiting() }
func (p *tblPair) holds() []*hold   { return p.t.allHolds() }
