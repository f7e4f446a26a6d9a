package audit

import (
	"runtime"
	"testing"
	"unsafe"
)

// bytesPerHold measures what a State takes for each hold beside the strings it shares with the caller.
func bytesPerHold(holds int) float64 {
	var before, after runtime.MemStats
	s := NewState()
	r := *grant("/srv/timemachine/alice/MacBook.sparsebundle")
	runtime.GC()
	runtime.GC() // what has a finalizer, of the tests before, goes with the second
	runtime.ReadMemStats(&before)
	for i := range holds {
		r.Seq = uint64(i + 1)
		r.ID = r.Seq
		if err := s.apply(&r, 500); err != nil {
			panic(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(s)
	return float64(int64(after.HeapAlloc)-int64(before.HeapAlloc)) / float64(holds)
}

func TestAHoldTakesAtMost300Bytes(t *testing.T) {
	for _, holds := range []int{10000, 50000} {
		if n := bytesPerHold(holds); n > 300 {
			t.Errorf("%d holds: %.0f bytes each", holds, n)
		} else {
			t.Logf("%d holds: %.0f bytes each", holds, n)
		}
	}
}

// A class of 16 bytes more for each of 65,536 holds, and for their copies in two states: a new field needs a reason.
func TestAKeptHoldIs224Bytes(t *testing.T) {
	if n := unsafe.Sizeof(kept{}); n != 224 {
		t.Errorf("it is %d bytes", n)
	}
}

func BenchmarkMemoryPerHold(b *testing.B) {
	var n float64
	for b.Loop() {
		n = bytesPerHold(10000)
	}
	b.ReportMetric(n, "bytes/hold")
}
