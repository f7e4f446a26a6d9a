package broker

import (
	"runtime"
	"sync"
	"sync/atomic"

	"locker/flock"
	"locker/keeper"
)

// examinedAtOnce is how many descriptors one goroutine takes at a time.
const examinedAtOnce = 64

// examine asks the kernel about the descriptors of all entries, on all processors: with many holds that is most of what a start has to
// do (BenchmarkBesideEcho). What it says of entries without a lock's descriptor means nothing.
//
// That it is asked before the first entry is dealt with changes nothing: only the broker before lets go of these locks, and it has
// ended, and then we do, of one entry's description without touching another's. The keeper never does.
func examine(o *flock.Opener, listed []keeper.Entry) []flock.Examined {
	seen := make([]flock.Examined, len(listed))
	var taken atomic.Int64
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for {
				first := int(taken.Add(examinedAtOnce)) - examinedAtOnce
				if first >= len(listed) {
					return
				}
				for i := first; i < min(first+examinedAtOnce, len(listed)); i++ {
					if listed[i].ID&waitBit == 0 {
						seen[i] = o.Examine(listed[i].Lock)
					}
				}
			}
		})
	}
	work.Wait()
	return seen
}
