package broker

// setLimits changes the limits for what comes from now on; nobody who is in loses anything.
func (t *table) setLimits(l limits) { t.limits = l }

// usable is how much of a limit over all a uid may use: the last 1/32 is root's.
func usable(uid uint32, all int) int {
	if uid == 0 {
		return all
	}
	return all - all/32
}

// overHolds reports whether c, which has joined, is more than its uid or all may have.
func (t *table) overHolds(c *claim) bool {
	u := c.party.usage
	return u.holds+u.needs > t.limits.holds || t.all.holds+t.all.needs > usable(c.uid, t.limits.holdsAll)
}

// overWaiters reports whether one waiter more is more than the uid or all may have.
func (t *table) overWaiters(uid uint32) bool {
	return t.usages[uid].waiters >= t.limits.waiters || t.all.waiters >= usable(uid, t.limits.waitersAll)
}

func (t *table) countWaiter(c *claim, n int) {
	c.party.usage.waiters += n
	t.all.waiters += n
}

func (t *table) countNeed(p *party, n int) {
	p.usage.needs += n
	t.all.needs += n
}

func (t *table) countHold(p *party, n int) {
	p.usage.holds += n
	t.all.holds += n
}
