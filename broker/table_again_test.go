package broker

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// A table that is made anew of the holds and places of another one goes on as that would have: the same queues, in the same order.
func TestATableThatIsRestoredHasTheSameQueues(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		old := newTable(limits{holds: 1000, holdsAll: 1000, waiters: 1000, waitersAll: 1000})
		id := uint64(0)
		next := func() uint64 { id++; return id }
		for range 60 {
			uid := uint32(rng.IntN(4) + 1)
			c := &claim{owner: owner{uid: uid, session: next() + 1000}, uid: uid, mode: mode(rng.IntN(2) + 1), req: &request{}}
			for range rng.IntN(3) + 1 {
				c.keys = append(c.keys, key{1, uint64(rng.IntN(5))})
			}
			c.keys = sortKeys(c.keys)
			if v, _ := old.add(c); v == pending {
				var ids []uint64
				for range old.need(c) {
					ids = append(ids, next())
				}
				old.grant(c, ids)
			}
			if holds := old.allHolds(); len(holds) > 4 && rng.IntN(3) == 0 {
				old.release(holds[rng.IntN(len(holds))]) // and who moves up stays pending
			}
		}
		anew := newTable(old.limits)
		for _, h := range old.allHolds() {
			anew.restore(&hold{id: h.id, key: h.key, owner: h.owner, uid: h.uid, mode: h.mode})
		}
		claims := old.allWaiting()
		slices.SortFunc(claims, order)
		same := map[*claim]*claim{}
		for _, c := range claims {
			d := &claim{owner: c.owner, uid: c.uid, mode: c.mode, keys: slices.Clone(c.keys), req: &request{}}
			anew.restoreClaim(d, c.round, c.arrival)
			same[c] = d
		}
		anew.settle()
		if err := anew.check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for ino := range uint64(5) {
			k := key{1, ino}
			if want, got := sessionsOf(old.queue(k)), sessionsOf(anew.queue(k)); !slices.Equal(got, want) {
				t.Fatalf("seed %d, file %d: queue %v, want %v", seed, ino, got, want)
			}
		}
		// Nobody may move who could not before, but for those whose files a pending claim had for itself.
		for c, d := range same {
			if d.state == claimWaiting && anew.ready(d) {
				t.Errorf("seed %d: session %d waits for nothing", seed, c.owner.session)
			}
		}
	}
}

// sessionsOf names a queue by its owners, in the order of their turns.
func sessionsOf(claims []*claim) (ids []uint64) {
	claims = slices.Clone(claims)
	slices.SortFunc(claims, order)
	for _, c := range claims {
		ids = append(ids, c.owner.session)
	}
	return ids
}
