package broker

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Whatever others do, a uid's n-th waiter on a file waits for n turns of each other uid at most.
func TestFloodingUIDsCannotStarveAnother(t *testing.T) {
	const floods, depth, victim = 5, 40, 99
	for seed := range 20 {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		w := tblNewCrowd(t)
		f := key{1, 1}
		w.add(1, exclusive, f)
		w.grantAll()
		var mine []*claim
		var before []map[uint32]int
		for step := range 600 {
			for uid := uint32(1); uid <= floods; uid++ {
				for w.waiting(f, uid) < depth {
					w.add(uid, mode(1+r.IntN(2)), f)
				}
			}
			for range r.IntN(4) { // canceling gives no advantage
				q := w.table.queue(f)
				if c := q[r.IntN(len(q))]; c.uid != victim {
					w.moved(w.table.abandon(c))
				}
			}
			if step > 50 && len(mine) == 0 {
				for range 4 {
					mine = append(mine, w.add(victim, exclusive, f))
					turns := map[uint32]int{}
					for uid, n := range w.turns[f] {
						turns[uid] = n
					}
					before = append(before, turns)
				}
			}
			w.end(f)
			w.grantAll()
			for n, c := range mine {
				if c.inTable() {
					for uid := uint32(1); uid <= floods; uid++ {
						if got := w.turns[f][uid] - before[n][uid]; got > n+1 {
							t.Fatalf("seed %d: waiter %d was passed %d times by uid %d", seed, n+1, got, uid)
						}
					}
				}
			}
			if len(mine) > 0 && !mine[3].inTable() {
				mine, before = nil, nil
			}
		}
		w.check()
	}
}

// Who comes back at once, one claim at a time, is not a newcomer each time.
func TestComingBackDoesNotPassSecondWaiters(t *testing.T) {
	w := tblNewCrowd(t)
	f := key{1, 1}
	w.top(f, 1, 1)
	w.grantAll()
	w.top(f, 1, 1, 2, 3)
	var mine []*claim
	for range 4 {
		mine = append(mine, w.add(9, exclusive, f))
	}
	before := w.count(f)
	for n, c := range mine {
		for c.inTable() {
			if got := w.count(f) - before; got > 4*(n+1) {
				t.Fatalf("waiter %d of a uid still waits after %d turns of all", n+1, got)
			}
			w.turn(f)
			w.top(f, 1, 1, 2, 3)
		}
	}
	w.check()
}

// Who has been served often while others waited is not passed by a newcomer as often as that.
func TestNewcomerDoesNotCatchUpWithThoseWhoWereServed(t *testing.T) {
	w := tblNewCrowd(t)
	f := key{1, 1}
	for range 1000 {
		w.top(f, 2, 1, 2)
		w.turn(f)
	}
	mine := w.last(f, 1)
	before := w.turns[f][3]
	for mine.inTable() {
		w.top(f, 10, 3)
		if got := w.turns[f][3] - before; got > 3 {
			t.Fatalf("passed %d times by a newcomer", got)
		}
		w.turn(f)
	}
	w.check()
}

// A line that never ends remembers who was served in this round, and no more.
func TestLineForgetsWhoHasGone(t *testing.T) {
	w := tblNewCrowd(t)
	f := key{1, 1}
	w.top(f, 1, 1)
	w.grantAll()
	for uid := range uint32(5000) {
		w.top(f, 2, 1)
		w.add(uid+2, exclusive, f)
		w.turn(f)
		w.turn(f) // and a new round begins
		if l := w.table.byKey[f].line; l != nil && len(l.flows) > 40 {
			t.Fatalf("%d uids are remembered, %d claims are here", len(l.flows), len(l.waiting))
		}
	}
	w.check()

	w = tblNewCrowd(t)
	w.top(f, 1, 1)
	w.grantAll()
	w.top(f, 2, 99)
	first := w.table.queue(f)[0]
	second := w.last(f, 99)
	for first.inTable() {
		w.turn(f)
	}
	for uid := range uint32(40) { // newcomers pass the second waiter, each once
		w.top(f, 1, uid+100)
		w.turn(f)
	}
	if second.state != claimWaiting {
		t.Fatal("newcomers did not pass a second waiter")
	}
	for uid := range uint32(40) {
		w.top(f, 1, uid+100)
	}
	if w.turn(f); second.state != claimGranted {
		t.Error("who was served already passed a second waiter")
	}
}

// Looking at all of 20,000 for each of them takes many times the 2 s that are allowed; serving them takes a tenth.
func TestLongLineIsServedWithoutLookingAtAllOfIt(t *testing.T) {
	f := key{1, 1}
	for name, m := range map[string]mode{"shared": shared, "exclusive": exclusive} {
		start := time.Now()
		w := tblNewCrowd(t)
		w.add(1, exclusive, f)
		w.grantAll()
		for i := range 20_000 {
			w.add(uint32(i%500)+2, m, f)
		}
		for len(w.table.allHolds()) > 0 {
			w.end(f)
			w.grantAll()
			if time.Since(start) > 2*time.Second {
				t.Fatalf("%s: %d still wait after %v", name, len(w.table.queue(f)), time.Since(start))
			}
		}
		if err := w.table.empty(); err != nil {
			t.Fatal(err)
		}
	}
}
