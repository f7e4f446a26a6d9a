package broker

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync/atomic"
	"testing"

	"locker/wire"
)

// BenchmarkPair is a lock and an unlock over a real socket, client and broker in one process.
func BenchmarkPair(b *testing.B) {
	for _, life := range []wire.Life{wire.Attached, wire.Detached} {
		b.Run(life.String(), func(b *testing.B) {
			r := newRig(b, func(r *rig) { r.segment = 64 << 20 })
			m := attached(r.file("a"))
			m.Life = life
			p := r.dial()
			b.ReportAllocs()
			for b.Loop() {
				g := p.granted(m)
				p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
			}
		})
	}
}

// BenchmarkPairs64 is the same with 64 clients, each with a file of its own.
func BenchmarkPairs64(b *testing.B) {
	r := newRig(b, func(r *rig) { r.segment = 64 << 20 })
	var next atomic.Int32
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		m := attached(r.file(fmt.Sprint("file-", next.Add(1))))
		p := r.dial()
		for pb.Next() {
			g := p.granted(m)
			p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		}
	})
}

// BenchmarkHoldMemory reports what a hold keeps on the heap, table, books, file and log state together.
func BenchmarkHoldMemory(b *testing.B) {
	const n = 10000
	for b.Loop() {
		r := newRig(b, func(r *rig) {
			r.segment = 64 << 20
			r.policy = rules(r.files, "allow = [\"FILES\"]\n[limits]\nholds = 20000\n[[rule]]\nname = \"bench\"\nusers = [UID]\npaths = [\"FILES\"]\nmax_hold = \"12h\"\ncan = [\"lock\"]\n")
		})
		two := []*peer{r.dial(), r.dial()} // one connection may not hold so many
		before := liveHeap()
		for i := range n {
			two[i%2].granted(attached(r.file(fmt.Sprint("file-", i))))
		}
		b.ReportMetric(float64(liveHeap()-before)/n, "bytes/hold")
		if out := os.Getenv("LOCKER_HEAP_PROFILE"); out != "" {
			f, err := os.Create(out)
			if err != nil {
				b.Fatal(err)
			}
			pprof.WriteHeapProfile(f)
			f.Close()
		}
		r.halt()
	}
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkBundlePair is a lock and an unlock of a bundle, whose watches are set before the answer, beside the same without them. Any
// other file is watched when it has been held for a while, and costs the same as in BenchmarkPair.
func BenchmarkBundlePair(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprintf("watched=%v", watched), func(b *testing.B) {
			r := newRig(b, func(r *rig) { r.segment = 64 << 20 })
			if !watched {
				r.b.mu.Lock()
				r.b.changes.all = 0
				r.b.mu.Unlock()
			}
			m := attached(r.bands("mac", 100))
			p := r.dial4()
			for b.Loop() {
				g := p.granted(m)
				p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
			}
		})
	}
}
