package broker

import "testing"

// tblCrowd plays owners on a table of its own, where the kernel says yes at once.
type tblCrowd struct {
	t      *testing.T
	table  *table
	nextID uint64
	turns  map[key]map[uint32]int // grants of each uid on each file
	ready  []*claim               // pending
	held   []*hold
}

func tblNewCrowd(t *testing.T) *tblCrowd {
	return &tblCrowd{t: t, table: newTable(tblRoomy), turns: map[key]map[uint32]int{}}
}

func (w *tblCrowd) add(uid uint32, m mode, keys ...key) *claim {
	w.nextID++
	c := &claim{owner: owner{uid: uid, session: w.nextID}, uid: uid, mode: m, keys: sortKeys(keys)}
	if v, _ := w.table.add(c); v == pending {
		w.ready = append(w.ready, c)
	} else if v != queued {
		w.t.Fatalf("verdict %d", v)
	}
	return c
}

func (w *tblCrowd) moved(evs []event) {
	for _, e := range evs {
		if e.v != pending {
			w.t.Fatalf("claim %d: event %d", e.c.arrival, e.v)
		}
		w.ready = append(w.ready, e.c)
	}
}

// grantAll grants until nobody is pending.
func (w *tblCrowd) grantAll() {
	for len(w.ready) > 0 {
		c := w.ready[0]
		w.ready = w.ready[1:]
		ids := make([]uint64, len(w.table.need(c)))
		for i := range ids {
			w.nextID++
			ids[i] = w.nextID
		}
		holds, evs := w.table.grant(c, ids)
		w.held = append(w.held, holds...)
		for _, k := range c.keys {
			if w.turns[k] == nil {
				w.turns[k] = map[uint32]int{}
			}
			w.turns[k][c.uid]++
		}
		w.moved(evs)
	}
}

// end releases all holds on k.
func (w *tblCrowd) end(k key) {
	left := w.held[:0]
	for _, h := range w.held {
		if h.key == k {
			w.moved(w.table.release(h))
		} else {
			left = append(left, h)
		}
	}
	w.held = left
}

// waiting is how many claims of the uid are in the line of k.
func (w *tblCrowd) waiting(k key, uid uint32) (n int) {
	for _, c := range w.table.queue(k) {
		if c.uid == uid {
			n++
		}
	}
	return n
}

func (w *tblCrowd) check() {
	w.t.Helper()
	if err := w.table.check(); err != nil {
		w.t.Fatal(err)
	}
}

// count is the number of grants on a file.
func (w *tblCrowd) count(k key) (n int) {
	for _, some := range w.turns[k] {
		n += some
	}
	return n
}

// top keeps two exclusive claims of each uid in the line of k.
func (w *tblCrowd) top(k key, n int, uids ...uint32) {
	for _, uid := range uids {
		for w.waiting(k, uid) < n {
			w.add(uid, exclusive, k)
		}
	}
}

// turn ends what is held and grants what comes.
func (w *tblCrowd) turn(keys ...key) {
	for _, k := range keys {
		w.end(k)
	}
	w.grantAll()
}

// last is the last claim of the uid in the line of k.
func (w *tblCrowd) last(k key, uid uint32) (c *claim) {
	for _, d := range w.table.queue(k) {
		if d.uid == uid {
			c = d
		}
	}
	return c
}

// granted plays turns on the keys, with the crowd that top keeps up, until c is granted; each file has limit turns.
func (w *tblCrowd) granted(c *claim, limit int, top func(), keys ...key) {
	w.t.Helper()
	var before []int
	for _, k := range keys {
		before = append(before, w.count(k))
	}
	for steps := 0; c.inTable(); steps++ {
		w.turn(keys...)
		top()
		for i, k := range keys {
			if got := w.count(k) - before[i]; got > limit || steps > 100 {
				w.t.Fatalf("the claim was passed %d times on %v in %d steps", got, k, steps)
			}
		}
	}
	w.check()
}
