package broker

import (
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// What a long line costs is measured against as many in lines of 100, by the processor's time: how fast the machine is, and how busy, cancels out. Looking
// at all of 20,000 for each of them takes many times as long as what is allowed.
func TestLongLineIsServedWithoutLookingAtAllOfIt(t *testing.T) {
	const all, most = 20_000, 8
	for name, m := range map[string]mode{"shared": shared, "exclusive": exclusive} {
		short := tblServe(t, m, all, 100, 0)
		if long := tblServe(t, m, all, all, most*short); long > most*short {
			t.Errorf("%s: one line of %d takes %v, lines of 100 %v", name, all, long, short)
		}
	}
}

// tblServe has all claims served that wait for files in lines of so many, and gives the processor's time that it took; more than most, if not 0, is
// not waited for.
func tblServe(t *testing.T, m mode, all, line int, most time.Duration) time.Duration {
	t.Helper()
	began := processorTime(t)
	w := tblNewCrowd(t)
	for n := range uint64(all / line) {
		f := key{1, n + 1}
		w.add(1, exclusive, f)
		w.grantAll()
		for i := range line {
			w.add(uint32(i%500)+2, m, f)
		}
		for len(w.table.allHolds()) > 0 {
			w.end(f)
			w.grantAll()
			if took := processorTime(t) - began; most > 0 && took > most {
				return took
			}
		}
	}
	if err := w.table.empty(); err != nil {
		t.Fatal(err)
	}
	return processorTime(t) - began
}

func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
