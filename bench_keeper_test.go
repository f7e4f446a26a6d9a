package locker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// startBroker starts a lockerd without a keeper: its locks end with it.
func (d *benchDir) startBroker(b *testing.B, oneCPU bool) *benchServer {
	return d.start(b, benchCommand(oneCPU, filepath.Join(d.dir, "lockerd"), "broker", "--keeper", "none", "--config", d.policy), filepath.Join(d.dir, "run", "s"))
}

// broker is the process that serves.
func (s *benchServer) broker(b *testing.B) int {
	b.Helper()
	children := childrenOf(s.cmd.Process.Pid)
	if len(children) != 1 {
		b.Fatalf("lockerd has the children %v", children)
	}
	return children[0]
}

// benchKeeping measures what a keeper costs a lock: the same load with one and without, in turns.
func (d *benchDir) benchKeeping(b *testing.B, row func(...string)) {
	for _, c := range []struct {
		name    string
		clients int
		oneCPU  bool
	}{
		{"lock + unlock without a keeper beside the same with one, 1 client, one CPU", 1, true},
		{"without and with a keeper, 1 client", 1, false},
		{"without and with a keeper, 64 clients", 64, false},
	} {
		var without, with []benchResult
		for range benchRounds {
			without = append(without, d.load(b, d.startBroker(b, c.oneCPU), "attached", c.clients, c.oneCPU))
			with = append(with, d.load(b, d.startLockerd(b, c.oneCPU), "attached", c.clients, c.oneCPU))
		}
		of, unit := func(r benchResult) float64 { return float64(r.P50) / 1e3 }, ", p50 µs"
		if c.clients > 1 {
			of, unit = func(r benchResult) float64 { return r.Rate }, ", pairs/s"
		} else {
			b.ReportMetric(medianRatio(with, without, of), "p50/no-keeper")
		}
		row(c.name+unit, format(median(without, of)), format(median(with, of)), format(medianRatio(with, without, of)))
	}
}

// manyHolds is how many are held where many are: 10,000, unless the keeper may not have two descriptors for each.
func manyHolds(b *testing.B) int {
	b.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		b.Fatal(err)
	}
	return min(10000, (int(min(limit.Max, 1<<30))-100)/2)
}

// benchRestart measures how long clients wait when the broker is killed, and when both processes are, with many holds; and what
// a hold costs the keeper.
func (d *benchDir) benchRestart(b *testing.B, row func(...string)) {
	s := d.startLockerd(b, false)
	defer func() { s.stop() }()
	holds := manyHolds(b)
	held := fmt.Sprint(holds)
	before := rss(b, s.cmd.Process.Pid)
	d.holdMany(s, holds)
	row("memory of a hold in the keeper, bytes ("+held+" held)", "", format(float64(rss(b, s.cmd.Process.Pid)-before)/float64(holds)), "")

	var took []float64
	for range benchRounds {
		old := s.broker(b)
		t0 := time.Now()
		benchCheck(unix.Kill(old, unix.SIGKILL))
		for slices.Contains(childrenOf(s.cmd.Process.Pid), old) { // else it may accept once more
			time.Sleep(time.Millisecond / 4) // a benchmark's step, not a test
		}
		s.firstAnswer(b, holds)
		took = append(took, float64(time.Since(t0).Microseconds())/1e3)
	}
	row("broker killed with "+held+" holds: until the next one answers, ms", "", format(middle(took)), "")

	took = nil
	for range benchRounds {
		broker := s.broker(b)
		for _, pid := range []int{s.cmd.Process.Pid, broker} { // stopped first: neither is to see the other's end
			benchCheck(unix.Kill(pid, unix.SIGSTOP))
		}
		benchCheck(unix.Kill(broker, unix.SIGKILL))
		benchCheck(s.cmd.Process.Kill())
		s.cmd.Wait()
		os.Remove(s.socket)
		t0 := time.Now()
		s = d.startLockerd(b, false)
		s.firstAnswer(b, holds)
		took = append(took, float64(time.Since(t0).Microseconds())/1e3)
	}
	row("both killed with "+held+" holds: from start to the first answer, all claimed again, ms", "", format(middle(took)), "")
}

func middle(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}

// holdMany takes detached locks, in sets, since each answer waits for the disk.
func (d *benchDir) holdMany(s *benchServer, holds int) {
	c := dialBench(s.socket, true)
	defer c.c.Close()
	for first := 0; first < holds; first += wire.MaxPaths {
		var set []string
		for i := first; i < min(first+wire.MaxPaths, holds); i++ {
			path := filepath.Join(d.files, fmt.Sprint("hold-", i))
			benchCheck(os.WriteFile(path, nil, 0o600))
			set = append(set, path)
		}
		m := c.ask(&wire.Lock{Mode: wire.Exclusive, Wait: wire.NonBlock, Life: wire.Detached, Paths: set})
		if _, ok := m.(*wire.Granted); !ok {
			benchCheck(fmt.Errorf("lock: %+v", m))
		}
	}
}

// firstAnswer asks for one, and for what is held.
func (s *benchServer) firstAnswer(b *testing.B, holds int) {
	b.Helper()
	c := dialBench(s.socket, true)
	defer c.c.Close()
	if m, ok := c.ask(&wire.Status{}).(*wire.StatusReply); !ok || int(m.Holds) != holds {
		b.Fatalf("of %d holds are left: %+v", holds, m)
	}
}
