package broker

import (
	"fmt"
	"slices"
	"testing"

	"locker/wire"
)

// order gives who waits for a file, as session and request, in their order.
func (r *rig) order(path string) (waiting []string) {
	r.t.Helper()
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	for _, c := range r.b.table.allWaiting() {
		if slices.Contains(c.req.msg.Paths, path) {
			waiting = append(waiting, fmt.Sprintf("%x/%d", c.req.s.id, c.req.id))
		}
	}
	return waiting
}

// A set that waits for a crowded file and a busy one has the rounds of the crowded one's line counted on, see align.
func TestThoseWhoWaitKeepTheirOrderOverARestart(t *testing.T) {
	needRoot(t, "two users")
	r, s := withKeeper(t, limited("holds = 100"))
	crowded, busy := r.file("crowded"), r.file("busy")
	p, q, alices := r.dial2(), r.dial2(), r.dialUser2()
	p.granted(attached(crowded))
	first, second := detached(crowded), detached(crowded) // of one uid: the second stands in the second round
	second.Tag = "second"
	q.queued(q.send(first))
	q.queued(q.send(second))
	turns := make([]uint32, 8)
	for i := range turns {
		m := detached(busy)
		m.Tag = uintText(uint64(i))
		if turns[i] = q.send(m); i > 0 {
			q.queued(turns[i])
		}
	}
	for _, id := range turns[:len(turns)-2] { // so that its clock runs ahead
		q.answer(q.send(&wire.Unlock{By: wire.ByID, ID: grants(t, q.answer(id))[0].ID}))
	}
	set := q.send(attached(crowded, busy))
	q.queued(set)
	early := alices.send(attached(crowded))
	alices.queued(early)
	before := r.order(crowded)
	if at := slices.Index(before, fmt.Sprintf("%x/%d", alices.session, early)); at != 1 || len(before) != 4 {
		t.Fatalf("alice is no. %d of %v, and the second of somebody else stands before her", at, before)
	}
	eventually(t, "the keeper knows", func() bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return len(r.b.keeping.shifted) == 0
	})
	s.crash()
	s.back()
	if after := r.order(crowded); !slices.Equal(after, before) {
		t.Errorf("order\n%v, after the restart\n%v", before, after)
	}
	r.checkReplay()
}
