package broker

import "slices"

// add enters a claim: pending, queued, satisfied, deadlock, conversion, quotaHolds or quotaWaiters.
func (t *table) add(c *claim) (verdict, detail) { return t.admit(c, true) }

// tryAdd is add for a claim that would rather be refused than wait: blocked instead of queued, deadlock and quotaWaiters.
func (t *table) tryAdd(c *claim) (verdict, detail) { return t.admit(c, false) }

func (t *table) admit(c *claim, wait bool) (verdict, detail) {
	c.check()
	t.join(c)
	owned, v := t.owned(c)
	d := detail{owned: owned}
	if v == 0 && t.overHolds(c) {
		v = quotaHolds
	}
	if v != 0 {
		t.part(c)
		return v, d
	}
	t.open(c)
	if len(c.files) > 1 {
		t.align(c)
	}
	t.setRound(c, 0, func(int) bool { return true })
	t.arrivals++
	c.arrival = t.arrivals
	v = pending
	if !t.ready(c) {
		v = queued
	}
	switch {
	case v == queued && !wait:
		v = blocked
	case v == queued && t.overWaiters(c.uid):
		v = quotaWaiters
	default:
		if d.cycle = t.enter(c, v); d.cycle == nil {
			return v, d
		}
		v = deadlock
	}
	t.shut(c)
	t.part(c)
	return v, d
}

// enter puts c into its lines, pending or queued, unless that closes a cycle, which it returns.
func (t *table) enter(c *claim, v verdict) (cycle []link) {
	state := claimWaiting
	if v == pending {
		state = claimPending
	}
	t.start(c, state)
	if t.mayCloseCycle(c) {
		if cycle = t.cycle(c.party, nil); cycle != nil {
			t.stop(c, false)
		}
	}
	return cycle
}

// check holds the caller to the contract: a claim that is malformed or in a table already is a bug of ours.
func (c *claim) check() {
	switch {
	case c.inTable():
		panic("lock table: the claim is in the table already")
	case c.uid != c.owner.uid:
		panic("lock table: a claim for another uid than its owner's")
	case c.mode != exclusive && c.mode != shared:
		panic("lock table: a claim without a mode")
	case len(c.keys) == 0 || !slices.IsSortedFunc(c.keys, compareKeys):
		panic("lock table: a claim's keys are none or not in order")
	}
	for i := 1; i < len(c.keys); i++ {
		if c.keys[i] == c.keys[i-1] {
			panic("lock table: a claim names a file twice")
		}
	}
}

// abandon takes a waiting or pending claim out and returns who moves up. Nothing happens to a claim that is not in
// the table (any more).
func (t *table) abandon(c *claim) []event {
	if !c.inTable() {
		return nil
	}
	t.leave(c)
	t.part(c)
	return t.settle()
}

// leave takes c out of its lines as if it had never been there.
func (t *table) leave(c *claim) {
	t.suspectRest(c)
	t.stop(c, false)
	t.moves.dirty = append(t.moves.dirty, c.files...)
	t.shut(c)
}

// rekey moves a claim whose file was replaced to other files. It keeps its arrival, and in the queues that it does not
// leave its place. The verdict is as of add; the events are of others. No quota is asked again for what it needed before, since it is
// in already; but one of its files may have been its owner's, and the one in its stead is not.
func (t *table) rekey(c *claim, keys []key) (verdict, detail, []event) {
	if !c.inTable() {
		panic("lock table: rekey of a claim that is not in the table")
	}
	old, round, needed := c.keys, c.round, len(c.keys)-c.covered
	t.leave(c)
	t.part(c)
	evs := t.acquit()

	c.keys = keys
	c.check()
	t.join(c)
	owned, v := t.owned(c)
	d := detail{owned: owned}
	if v == 0 && len(c.keys)-c.covered > needed && t.overHolds(c) {
		v = quotaHolds
	}
	if v != 0 {
		t.part(c)
		return v, d, append(evs, t.settle()...)
	}
	t.open(c)
	stays := func(i int) bool {
		_, found := slices.BinarySearchFunc(old, c.keys[i], compareKeys)
		return found
	}
	kept := uint64(0)
	for i := range c.keys {
		if stays(i) {
			kept = round
		}
	}
	t.setRound(c, kept, func(i int) bool { return !stays(i) })
	v = pending
	if !t.ready(c) {
		v = queued
	}
	if d.cycle = t.enter(c, v); d.cycle != nil {
		t.shut(c)
		t.part(c)
		v = deadlock
	}
	return v, d, append(evs, t.settle()...)
}

// open finds or makes the files of a claim.
func (t *table) open(c *claim) {
	c.files = c.one[:0]
	for _, k := range c.keys {
		f := t.byKey[k]
		if f == nil {
			f = &file{}
			t.byKey[k] = f
		}
		c.files = append(c.files, f)
	}
	t.asked += len(c.keys)
}

// shut lets go of the files of a claim that is in none of their lines any more.
func (t *table) shut(c *claim) {
	for i, f := range c.files {
		t.drop(c.keys[i], f)
	}
	t.asked -= len(c.keys)
	c.files, c.one[0] = nil, nil
}

// drop forgets a file that nobody holds or claims.
func (t *table) drop(k key, f *file) {
	if f.holds == nil && f.line == nil && t.byKey[k] == f {
		delete(t.byKey, k)
	}
}

// start puts a claim that is in no line into all of its lines.
func (t *table) start(c *claim, s claimState) {
	for _, f := range c.files {
		if f.line == nil {
			f.line = &line{}
		}
		f.line.enter(c)
	}
	t.setState(c, s)
}

// setState makes a claim stand among the waiting or the pending of its lines.
func (t *table) setState(c *claim, s claimState) {
	if s == claimWaiting {
		c.tangled = c.party.tangled()
	}
	for _, f := range c.files {
		if c.state == claimWaiting {
			f.line.endWaiting(c)
		}
		if s == claimPending {
			f.line.startPending(c)
		} else {
			f.line.startWaiting(c)
		}
	}
	if s == claimWaiting {
		t.countWaiter(c, 1)
	} else if c.state == claimWaiting {
		t.countWaiter(c, -1)
	}
	c.state = s
}

// stop takes a claim out of all of its lines; served: because it was granted.
func (t *table) stop(c *claim, served bool) {
	for _, f := range c.files {
		l := f.line
		if l.leave(c, served); len(l.pending)+len(l.waiting) == 0 {
			f.line = nil
		}
	}
	if c.state == claimWaiting {
		t.countWaiter(c, -1)
	}
	c.state = claimGone
}
