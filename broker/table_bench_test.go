package broker

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

func tblSession(i int) owner { return owner{uid: uint32(i%1000) + 1, session: uint64(i) + 1} }

func BenchmarkTableUncontended(b *testing.B) {
	t := newTable(tblRoomy)
	var id [1]uint64
	keys := []key{{1, 1}}
	b.ReportAllocs()
	for i := range b.N {
		c := &claim{owner: tblSession(i % 64), mode: exclusive, keys: keys}
		c.uid = c.owner.uid
		if v, _ := t.add(c); v != pending {
			b.Fatal(v)
		}
		id[0]++
		holds, _ := t.grant(c, id[:])
		t.release(holds[0])
	}
}

// tblQueue is a file with one holder and n waiters, each of its own session.
func tblQueue(n int, uids bool) (t *table, holder *hold, waiters []*claim) {
	t = newTable(tblRoomy)
	for i := range n + 1 {
		c := &claim{owner: tblSession(i), mode: exclusive, keys: []key{{1, 1}}}
		if !uids {
			c.owner.uid = 1
		}
		c.uid = c.owner.uid
		if v, _ := t.add(c); v == pending {
			holds, _ := t.grant(c, []uint64{1})
			holder = holds[0]
		} else {
			waiters = append(waiters, c)
		}
	}
	return t, holder, waiters
}

// tblHandOff releases the hold and grants the next claim, n times, while the one who released stands in line
// again. It returns how long the release and the grant took, on average.
func tblHandOff(t *table, holder *hold, n int) time.Duration {
	var spent time.Duration
	id := uint64(1)
	for range n {
		again := &claim{owner: holder.owner, uid: holder.uid, mode: exclusive, keys: []key{{1, 1}}}
		start := time.Now()
		evs := t.release(holder)
		id++
		holds, _ := t.grant(evs[0].c, []uint64{id})
		spent += time.Since(start)
		holder = holds[0]
		t.add(again)
	}
	return spent / time.Duration(n)
}

func BenchmarkTableHandOff(b *testing.B) {
	base := map[bool]float64{}
	for _, n := range []int{64, 10_000} {
		for _, uids := range []bool{false, true} {
			b.Run(fmt.Sprintf("waiters=%d/manyUIDs=%v", n, uids), func(b *testing.B) {
				t, holder, _ := tblQueue(n, uids)
				b.ResetTimer()
				ns := float64(tblHandOff(t, holder, b.N).Nanoseconds())
				if n == 64 {
					base[uids] = ns
				}
				b.ReportMetric(ns, "ns/handoff")
				b.ReportMetric(ns/base[uids], "x-of-64")
			})
		}
	}
}

// A run of readers is granted one after another when the writer before them lets go.
func BenchmarkTableSharedRun(b *testing.B) {
	for _, n := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("readers=%d", n), func(b *testing.B) {
			var spent time.Duration
			for range b.N {
				t, holder, waiters := tblQueue(n, true)
				for _, c := range waiters {
					t.abandon(c)
					c.mode = shared
					t.add(c)
				}
				start := time.Now()
				evs := t.release(holder)
				for id := uint64(2); len(evs) > 0; id++ {
					_, evs = t.grant(evs[0].c, []uint64{id})
				}
				spent += time.Since(start)
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/float64(n), "ns/grant")
		})
	}
}

func BenchmarkTableAbandonFromTheMiddle(b *testing.B) {
	for _, n := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("waiters=%d", n), func(b *testing.B) {
			t, _, waiters := tblQueue(n, true)
			b.ResetTimer()
			for i := range b.N {
				c := waiters[(n/2+i*7)%n]
				t.abandon(c)
				t.add(c)
			}
		})
	}
}

func BenchmarkTableAbandonHead(b *testing.B) {
	for _, n := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("waiters=%d", n), func(b *testing.B) {
			t, _, waiters := tblQueue(n, true)
			b.ResetTimer()
			for i := range b.N {
				c := waiters[i%n]
				t.abandon(c)
				t.add(c)
			}
		})
	}
}

// A newcomer who stands before a flood moves all of it.
func BenchmarkTableAddBeforeAFlood(b *testing.B) {
	t, _, _ := tblQueue(10_000, false)
	b.ResetTimer()
	for range b.N {
		c := &claim{owner: owner{uid: 7, session: 1 << 40}, uid: 7, mode: exclusive, keys: []key{{1, 1}}}
		t.add(c)
		t.abandon(c)
	}
}

// An owner who holds something is looked for among all those he would wait for.
func BenchmarkTableAddBehindHolders(b *testing.B) {
	for _, n := range []int{64, 10_000} {
		b.Run(fmt.Sprintf("waiters=%d", n), func(b *testing.B) {
			t, _, waiters := tblQueue(n, true)
			id := uint64(1)
			for i, c := range append(waiters[:n:n], &claim{owner: tblSession(n + 1), uid: tblSession(n + 1).uid}) {
				id++
				t.restoreLate(&hold{id: id, key: key{2, uint64(i)}, owner: c.owner, uid: c.uid, mode: exclusive})
			}
			b.ResetTimer()
			for range b.N {
				c := &claim{owner: tblSession(n + 1), uid: tblSession(n + 1).uid, mode: exclusive, keys: []key{{1, 1}}}
				t.add(c)
				t.abandon(c)
			}
		})
	}
}

// restoreLate is restore for a table that has claims already.
func (t *table) restoreLate(h *hold) {
	asked := t.asked
	t.asked = 0
	t.restore(h)
	t.asked = asked
	h.party.retangle()
}

func BenchmarkTableMemory(b *testing.B) {
	const n = 50_000
	for _, one := range []bool{true, false} {
		b.Run(fmt.Sprintf("oneOwner=%v", one), func(b *testing.B) {
			for range b.N {
				heap := func() uint64 {
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return m.HeapAlloc
				}
				before := heap()
				t := newTable(tblRoomy)
				for i := range n {
					o := owner{uid: 1}
					if !one {
						o = tblSession(i)
					}
					c := &claim{owner: o, uid: o.uid, mode: exclusive, keys: []key{{1, uint64(i)}}}
					t.add(c)
					t.grant(c, []uint64{uint64(i) + 1})
				}
				b.ReportMetric(float64(heap()-before)/n, "bytes/hold")
				runtime.KeepAlive(t)
			}
		})
	}
}
