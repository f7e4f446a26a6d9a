package guard

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkOpen is what an opener who is not refused pays, beside an open of a file in the next directory, one after the other
// in one run. The guard is a process of its own, as it always is.
func BenchmarkOpen(b *testing.B) {
	needGuard(b)
	_, path, _ := guardChild(b, time.Hour, "")
	c := dialGuard(b, path)
	must(b, c.Deny(b.Context(), []string{"/usr/sbin/smbd"}))
	const bands = 1000
	held, none := bundle{b, filepath.Join(b.TempDir(), "a.sparsebundle")}, bundle{b, filepath.Join(b.TempDir(), "b.sparsebundle")}
	held.fill(bands)
	none.fill(bands)
	held.guard(c, 1)
	took := map[string][]time.Duration{}
	open := func(name, path string) {
		begin := time.Now()
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		took[name] = append(took[name], time.Since(begin))
		must(b, err)
		unix.Close(fd)
	}
	i := 0
	for b.Loop() {
		open("guarded", held.band(i%bands))
		open("none", none.band(i%bands))
		i++
	}
	b.ReportMetric(0, "ns/op") // of both together says nothing
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e3, name+"-p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1e3, name+"-p99-µs")
	}
}

// BenchmarkGuard is Guard and Lift of a bundle, by how many bands the kernel knows of it, while another one is guarded.
func BenchmarkGuard(b *testing.B) {
	needGuard(b)
	for _, bands := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("bands=%d", bands), func(b *testing.B) {
			_, path, _ := guardChild(b, time.Hour, "")
			c := dialGuard(b, path)
			must(b, c.Deny(b.Context(), []string{"/usr/sbin/smbd"}))
			other, bundle := newBundle(b, 1), newBundle(b, bands)
			other.guard(c, 1)
			_, err := os.ReadDir(filepath.Dir(bundle.band(0)))
			must(b, err)
			fds := bundle.dirs()
			defer closeAll(fds)
			for b.Loop() {
				must(b, c.Guard(b.Context(), 2, fds))
				must(b, c.Lift(b.Context(), 2))
			}
		})
	}
}
