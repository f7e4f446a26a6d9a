package broker

import (
	"math/rand/v2"
	"testing"
)

// A file that is busy all the time counts far ahead; a set on it and on a slower one must not stand behind
// everybody who comes to the slower one until that has caught up.
func TestSetIsNotStarvedBesideABusyFile(t *testing.T) {
	busy, slow, other := key{1, 1}, key{1, 2}, key{1, 3}
	for name, set := range map[string]bool{"alone": false, "tied to another file by a set": true} {
		t.Run(name, func(t *testing.T) {
			w := tblNewCrowd(t)
			top := func() {
				w.top(busy, 2, 1, 2)
				w.top(slow, 2, 3, 4, 5)
				w.top(other, 2, 6)
			}
			top()
			w.grantAll()
			if set {
				w.add(7, shared, slow, other)
			}
			for range 5000 {
				w.turn(busy)
				top()
			}
			w.check()
			w.granted(w.add(8, exclusive, busy, slow), 6, top, busy, slow, other)
		})
	}
}

// Readers who come again and again pass a reader of several files who still waits for another one. That must not
// carry their file's clock away from the other file's.
func TestReadersWhoPassASetTakeNoTurns(t *testing.T) {
	w := tblNewCrowd(t)
	f, g := key{1, 1}, key{1, 2}
	w.top(g, 2, 10, 11)
	w.add(2, shared, f)
	w.grantAll()
	w.add(3, shared, f, g) // waits for g
	for range 1000 {
		w.add(4, shared, f)
		w.add(5, shared, f)
		w.grantAll()
	}
	w.granted(w.add(8, exclusive, f, g), 8, func() { w.top(g, 2, 10, 11) }, f, g)
}

// Claims on several files each, in a ring and at random, by owners who hold nothing: the queues alone never block.
func TestSetsNeverBlockEachOther(t *testing.T) {
	for seed := range 50 {
		r := rand.New(rand.NewPCG(uint64(seed), 4))
		w := tblNewCrowd(t)
		var keys []key
		for i := range 6 {
			keys = append(keys, key{1, uint64(i)})
			w.add(uint32(i%3), exclusive, keys[i])
		}
		w.grantAll()
		left := len(w.held)
		for i := range 120 {
			set := []key{keys[i%6], keys[(i+1)%6]}
			for range r.IntN(3) {
				set = append(set, keys[r.IntN(6)])
			}
			w.add(uint32(r.IntN(4)), mode(1+r.IntN(2)), set...)
			left++
		}
		w.check()
		for rounds := 0; len(w.table.allWaiting()) > 0; rounds++ {
			if rounds > left {
				t.Fatalf("seed %d: %d claims still wait after %d turns", seed, len(w.table.allWaiting()), rounds)
			}
			for _, k := range keys {
				w.end(k)
			}
			if len(w.ready) == 0 {
				t.Fatalf("seed %d: nobody holds anything, and nobody's turn it is", seed)
			}
			w.grantAll()
			w.check()
		}
		for _, k := range keys {
			w.end(k)
		}
		if err := w.table.empty(); err != nil {
			t.Fatal(err)
		}
	}
}
