package broker

import (
	"slices"
	"sort"
)

// line is what stands before one file: pending claims (one, save when an owner has released a file that others of
// his pending claims counted on) and waiting ones in their order. It exists while there is a claim in it.
//
// Who is next: the order is (round, arrival), and a uid's claims go into different rounds, so a uid's second
// waiter stands behind the first of everybody else. clock is the round that the line has come to.
type line struct {
	pending   []*claim
	waiting   []*claim
	exclusive int // of those waiting
	tangled   int // of those waiting: see party.tangled
	clock     uint64
	flows     map[uint32]flow // nil: one claim has been here since the line began, and is
	one       [1]*claim
	depth     depth // of the search for a cycle that has come here last
}

// flow is a uid's share of a line. It is remembered until the line ends or the clock has passed it: otherwise
// whoever comes back at once would be a first waiter each time.
type flow struct {
	in     int    // claims in the line
	high   uint64 // the highest round of those
	served uint64 // the round up to which it had its turn; 0 never
}

// last is the latest round that the uid has used.
func (w flow) last() uint64 {
	if w.in == 0 {
		return w.served
	}
	return max(w.high, w.served)
}

// before is the one order over all claims. Because it is the same in every line, two sets cannot wait for each other.
func (c *claim) before(d *claim) bool {
	if c.round != d.round {
		return c.round < d.round
	}
	return c.arrival < d.arrival
}

// roundFor is the earliest round in which the uid has had no turn yet.
func (l *line) roundFor(uid uint32) uint64 {
	w := l.flows[uid]
	if l.flows == nil {
		if only := l.only(); only.uid == uid {
			w = flow{in: 1, high: only.round}
		}
	}
	return max(l.clock, w.last()+1)
}

// only is the claim in a line that has one.
func (l *line) only() *claim {
	if len(l.pending) > 0 {
		return l.pending[0]
	}
	return l.waiting[0]
}

// enter counts c in; its round is set.
func (l *line) enter(c *claim) {
	if len(l.pending)+len(l.waiting) == 0 {
		l.clock = c.round
		return
	}
	if l.flows == nil {
		only := l.only()
		l.flows = map[uint32]flow{only.uid: {in: 1, high: only.round}}
	}
	l.forget()
	w := l.flows[c.uid]
	if w.in == 0 || w.high < c.round {
		w.high = c.round
	}
	w.in++
	l.flows[c.uid] = w
}

// forget drops uids who are as good as new, before the map grows beyond those who are here.
func (l *line) forget() {
	if len(l.flows) < 16+2*(len(l.pending)+len(l.waiting)) {
		return
	}
	for uid, w := range l.flows {
		if w.in == 0 && w.served < l.clock {
			delete(l.flows, uid)
		}
	}
}

// leave takes c out. served: it got its turn, and its uid is charged for it; otherwise it is as if it had never
// been there.
func (l *line) leave(c *claim, served bool) {
	if c.state == claimPending {
		l.endPending(c)
	} else {
		l.endWaiting(c)
	}
	if l.flows == nil {
		return // it was the only one: the line ends
	}
	w := l.flows[c.uid]
	w.in--
	if w.in > 0 && w.high == c.round {
		w.high = l.highest(c.uid, w)
	}
	if served {
		// Nobody's round is further than the first who still waits: a reader who passes a waiting reader takes
		// no turn of his, and a clock that ran ahead of him would put later sets behind everybody.
		round := c.round
		if len(l.waiting) > 0 {
			round = min(round, l.waiting[0].round)
		}
		w.served = max(w.served, round)
		l.clock = max(l.clock, round)
	}
	if w.in == 0 && w.served == 0 {
		delete(l.flows, c.uid)
		return
	}
	l.flows[c.uid] = w
}

// highest is the highest round among the claims of a uid that has left its highest one; w.in of them are left.
func (l *line) highest(uid uint32, w flow) uint64 {
	high, left := uint64(0), w.in
	for _, p := range l.pending {
		if p.uid == uid {
			high, left = max(high, p.round), left-1
		}
	}
	if left == 0 {
		return high
	}
	i := sort.Search(len(l.waiting), func(i int) bool { return l.waiting[i].round > w.high })
	for i--; l.waiting[i].uid != uid; i-- {
	}
	return max(high, l.waiting[i].round)
}

// place is c's index among those waiting, or where it would go in.
func (l *line) place(c *claim) int {
	return sort.Search(len(l.waiting), func(i int) bool { return !l.waiting[i].before(c) })
}

func (l *line) startWaiting(c *claim) {
	l.waiting = slices.Insert(l.waiting, l.place(c), c)
	if c.mode == exclusive {
		l.exclusive++
	}
	if c.tangled {
		l.tangled++
	}
}

// endWaiting moves the shorter side: the head leaves at once however long the line is.
func (l *line) endWaiting(c *claim) {
	i := l.place(c)
	if l.waiting[i] != c {
		panic("lock table: a waiting claim is not in its line")
	}
	if i < len(l.waiting)/2 {
		copy(l.waiting[1:i+1], l.waiting[:i])
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	} else {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	if c.mode == exclusive {
		l.exclusive--
	}
	if c.tangled {
		l.tangled--
	}
}

func (l *line) startPending(c *claim) {
	if l.pending == nil {
		l.pending = l.one[:0]
	}
	l.pending = append(l.pending, c)
}

func (l *line) endPending(c *claim) {
	i := slices.Index(l.pending, c)
	l.pending = slices.Delete(l.pending, i, i+1)
}

// firstExclusive is the first of those waiting who wants the file alone, or nil.
func (l *line) firstExclusive() *claim {
	if l.exclusive == 0 {
		return nil
	}
	for _, w := range l.waiting {
		if w.mode == exclusive {
			return w
		}
	}
	return nil
}
