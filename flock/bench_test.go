package flock

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// benchFile is below an allow entry, and old enough not to look as if it were being linked and unlinked.
func benchFile(b *testing.B) (*Opener, string) {
	dir := publicDir(b)
	path := newFile(b, dir+"/file")
	aged(b, path)
	return newOpener(b, dir), path
}

func BenchmarkOpen(b *testing.B) {
	o, path := benchFile(b)
	b.ReportAllocs()
	for b.Loop() {
		f, err := o.Open(path, Want{Mode: Exclusive})
		must(b, err)
		f.Close()
	}
}

func BenchmarkSame(b *testing.B) {
	o, path := benchFile(b)
	f := open(b, o, path)
	b.ReportAllocs()
	for b.Loop() {
		if same, err := o.Same(f); !same || err != nil {
			b.Fatal(same, err)
		}
	}
}

func BenchmarkOpenTryLockSameUnlockClose(b *testing.B) {
	o, path := benchFile(b)
	b.ReportAllocs()
	for b.Loop() {
		f, err := o.Open(path, Want{Mode: Exclusive})
		must(b, err)
		must(b, f.TryLock(Exclusive))
		if same, err := o.Same(f); !same || err != nil {
			b.Fatal(same, err)
		}
		must(b, f.Unlock())
		must(b, f.Close())
	}
}

// What a start asks about each lock, opened by a run in our mount namespace, and in another one as under a service manager.
func BenchmarkExamine(b *testing.B) {
	o, path := benchFile(b)
	here, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(b, err)
	for _, c := range []struct {
		name string
		fd   int
	}{{"here", here}, {"elsewhere", openElsewhere(path)}} {
		b.Run(c.name, func(b *testing.B) {
			if c.fd < 0 {
				b.Skip("needs root with mount namespaces of its own")
			}
			must(b, unix.Flock(c.fd, unix.LOCK_SH|unix.LOCK_NB))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := o.Examine(c.fd).Adopt(path, path, Shared); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	unix.Close(here)
}

// The floor: what must be called whatever the path is.
func BenchmarkSystemCallsAlone(b *testing.B) {
	_, path := benchFile(b)
	for b.Loop() {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		must(b, err)
		must(b, tryEngine(fd, OFD, Exclusive))
		must(b, tryEngine(fd, BSD, Exclusive))
		must(b, unix.Close(fd))
	}
}

func BenchmarkOutside(b *testing.B) {
	f, _ := held(b, "ofd") // the slow kind: all processes are asked
	for b.Loop() {
		_, err := Outside(f.ID, -2)
		must(b, err)
	}
}

// From the moment before an outside holder closes to Wait's return with the lock, and what a wait costs us.
func BenchmarkWait(b *testing.B) {
	w := newWaiter(b)
	f, p := held(b, "flock")
	var took []time.Duration
	before := cpu(b)
	for b.Loop() {
		tried, done := waiting(b.Context(), w, f)
		wantError(b, <-tried, ErrBusy, "first try")
		closing := p.stampAndClose()
		must(b, <-done)
		took = append(took, monotonic(b)-closing)
		must(b, f.Unlock())
		p.does("open", "rw", f.Path)
		p.does("flock", "exclusive")
	}
	spent := cpu(b) - before
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(spent.Microseconds())/float64(len(took)), "cpu-µs/wait")
}

// A holder that stays: what the net costs each second.
func BenchmarkWaitForNothing(b *testing.B) {
	w := newWaiter(b)
	f, _ := held(b, "flock")
	before, began := cpu(b), time.Now()
	tries := 0
	for b.Loop() {
		must(b, w.Wait(b.Context(), f, func() bool {
			f.TryLock(Exclusive)
			tries++
			return tries%20 == 0
		}))
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/time.Since(began).Seconds(), "cpu-µs/s")
}

func cpu(t testing.TB) time.Duration {
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
