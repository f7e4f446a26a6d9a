package broker

import (
	"fmt"
	"slices"
	"testing"

	"locker/keeper"
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

// A broker that dies while it puts the places of a claim anew leaves both, in no order: each is described anew as what it is.
func TestPlacesThatTheKeeperHasTwiceAreDescribedAnewAsWhatTheyAre(t *testing.T) {
	r, s := withKeeper(t, nil)
	a, b := r.file("a"), r.file("b")
	p, q := r.dial2(), r.dial2()
	p.granted(attached(a, b))
	q.queued(q.send(attached(a, b)))
	s.leave()
	files := map[uint64]key{} // by entry
	s.inKeeper(func(conn *keeper.Conn, entries []keeper.Entry) {
		for _, e := range entries {
			if e.ID&waitBit == 0 {
				continue
			}
			k, err := parseBlob(e.Blob)
			must(t, err)
			again := e
			again.ID = waitBit | (1000 - e.ID&^waitBit) // the other way round
			must(t, conn.Put(again))
			files[e.ID], files[again.ID] = key{k.dev, k.ino}, key{k.dev, k.ino}
		}
	})
	if len(files) != 4 {
		t.Fatalf("the keeper has %d places, want each of two twice", len(files))
	}
	s.back()
	r.b.mu.Lock()
	for _, c := range r.b.table.allWaiting() {
		r.b.tellPlaces(c.req)
	}
	r.b.mu.Unlock()
	eventually(t, "the keeper is told", func() bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return len(r.b.keeping.shifted) == 0
	})
	s.leave()
	s.inKeeper(func(_ *keeper.Conn, entries []keeper.Entry) {
		for _, e := range entries {
			k, err := parseBlob(e.Blob)
			must(t, err)
			if want, ok := files[e.ID]; ok && want != (key{k.dev, k.ino}) {
				t.Errorf("the place %x of %+v has become one of %d:%d", e.ID, want, k.dev, k.ino)
			}
		}
	})
	s.back()
}

// A claim that has just been abandoned, since its names lead elsewhere by now, has other files than its places are of.
func TestPlacesOfAClaimThatWasAbandonedAreNotDescribedAnew(t *testing.T) {
	r, _ := withKeeper(t, nil)
	path := r.file("a")
	r.dial2().granted(attached(path))
	q := r.dial2()
	waits := q.send(attached(path))
	q.queued(waits)
	r.b.mu.Lock()
	c := r.b.table.allWaiting()[0]
	r.b.tellPlaces(c.req)
	r.b.moved(r.b.table.abandon(c))
	slot := c.req.slot
	c.req.slot = nil
	for r.b.keepShifted() {
	}
	c.req.slot = slot
	r.b.mu.Unlock()
	q.send(&wire.Cancel{Target: waits})
	q.answer(waits)
}

// A place is one entry, also when the keeper changes while the Lock that has come again for it is being opened.
func TestAPlaceThatIsBeingTakenIsPutOnce(t *testing.T) {
	r, s := withKeeper(t, nil)
	held, free := r.file("a"), r.file("b")
	h, p := r.dial2(), r.dial2()
	g := h.granted(attached(held))
	id := p.send(attached(held, free))
	p.queued(id)
	s.leave()
	s.back()
	h.resumed(r)
	p.resumed(r)
	owner := startChild(t, "lease", free)
	p.repeat(id, attached(held, free))
	p.queued(id) // it waits for the file lease
	s.end()
	s.start()
	must(t, r.b.AwaitKept(t.Context()))
	owner.end()
	p.queued(p.send(&wire.Where{Target: id}))
	h.answer(h.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	grants(t, p.answer(id))
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{held, free}}))
	must(t, r.b.AwaitKept(t.Context()))
	s.leave()
	if ids := s.inKeeper(nil); len(ids) != 0 {
		t.Errorf("nothing is held or waited for, and the keeper has %x", ids)
	}
	s.back()
}
