package broker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"locker/audit"
	"locker/wire"
)

// BenchmarkStart is what a broker with 9,900 locks does before it serves anybody: when one was killed, and the keeper, another process,
// has copies of them, and when both were. Reported are its parts, too, which are to list what the keeper has, to open the log, and to take
// the locks over; and the processor time, without the keeper's.
func BenchmarkStart(b *testing.B) {
	const n, room = 9900, "9950"
	r, s := withKeeper(b, func(r *rig) {
		r.segment = 64 << 20
		r.policy = rules(r.files, "allow = [\"FILES\"]\n[limits]\nholds = 20000\n[[rule]]\nname = \"bench\"\nusers = [UID]\npaths = [\"FILES\"]\nmax_hold = \"12h\"\ncan = [\"lock\"]\n")
	})
	p := r.dial2()
	for first := 0; first < n; first += wire.MaxPaths {
		var set []string
		for i := first; i < min(first+wire.MaxPaths, n); i++ {
			set = append(set, r.file(fmt.Sprint("file-", i)))
		}
		p.granted(detached(set...))
	}
	s.leave()
	s.end()
	policy, err := r.policy()
	must(b, err)
	k := startChild(b, "keeper", s.path, room)
	var list, log, take, cpu time.Duration
	start := func() *Broker {
		logs := audit.Config{Dir: filepath.Join(r.dir, "audit"), SegmentSize: r.segment, GID: -1}
		config := Config{Policy: policy, Logger: hclog.NewNullLogger()}
		before, t0 := processorTime(b), time.Now()
		s.connect(&logs, &config)
		t1 := time.Now()
		config.Log, err = audit.Open(logs)
		must(b, err)
		t2 := time.Now()
		started, err := New(context.Background(), config)
		must(b, err)
		t3 := time.Now()
		list, log, take, cpu = list+t1.Sub(t0), log+t2.Sub(t1), take+t3.Sub(t2), cpu+processorTime(b)-before
		return started
	}
	end := func(started *Broker) {
		if held := started.table.countAllHolds(); held != n {
			b.Fatalf("%d are held", held)
		}
		s.forget(started)
		started.release()
		must(b, started.log.Close())
		removeOld(b, filepath.Join(r.dir, "audit"))
	}
	end(start()) // it gives the keeper what it has
	for _, killed := range []string{"broker", "both"} {
		b.Run("killed="+killed, func(b *testing.B) {
			list, log, take, cpu = 0, 0, 0, 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				if killed == "both" {
					k.end()
					k = startChild(b, "keeper", s.path, room)
				}
				b.StartTimer()
				started := start()
				b.StopTimer()
				end(started)
				b.StartTimer()
			}
			for unit, sum := range map[string]time.Duration{"list-ms": list, "log-ms": log, "take-ms": take, "cpu-ms": cpu} {
				b.ReportMetric(float64(sum.Microseconds())/1e3/float64(b.N), unit)
			}
		})
	}
}

// removeOld removes all segments of a log but the newest, which is all that is read.
func removeOld(b *testing.B, dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "seg-*"))
	must(b, err)
	for _, name := range names[:len(names)-1] {
		must(b, os.Remove(name))
	}
}
