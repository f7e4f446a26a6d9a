package locker_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"locker/wire"
)

// benchMemory measures what a hold costs lockerd, in bytes of resident memory, and how long a list of many takes.
func (d *benchDir) benchMemory(b *testing.B, row func(...string)) {
	holds := manyHolds(b)
	s := d.startLockerd(b, false)
	defer s.stop()
	conns := []*benchConn{dialBench(s.socket, true), dialBench(s.socket, true)} // each may hold 8,000
	idle := rss(b, s.broker(b))
	row("memory of an idle lockerd, MiB: broker, and keeper", "", format(float64(idle)/(1<<20))+", "+format(float64(rss(b, s.cmd.Process.Pid))/(1<<20)), "")
	var ids []uint64
	for i := range holds {
		path := filepath.Join(d.files, fmt.Sprint("hold-", i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			b.Fatal(err)
		}
		ids = append(ids, conns[i%2].lock(path, wire.Attached))
	}
	row("memory of a hold in the broker, bytes ("+fmt.Sprint(holds)+" held)", "", format(float64(rss(b, s.broker(b))-idle)/float64(holds)), "")
	d.benchList(b, s, holds, row)
	for i, id := range ids {
		conns[i%2].unlock(id)
	}
}

// benchConnections measures what an idle connection costs, in a lockerd that has done nothing yet.
func (d *benchDir) benchConnections(b *testing.B, row func(...string)) {
	const connections = 1000
	s := d.startLockerd(b, false)
	defer s.stop()
	first := dialBench(s.socket, true)
	before := rss(b, s.broker(b))
	var conns []*benchConn
	for range connections {
		conns = append(conns, dialBench(s.socket, true))
	}
	row("memory of a connection, bytes (1,000 open)", "", format(float64(rss(b, s.broker(b))-before)/connections), "")
	for _, c := range append(conns, first) {
		c.c.Close()
	}
}

// rss reads the resident size of a process in bytes.
func rss(b *testing.B, pid int) int64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// benchColdStart measures the user command from spawn to exit, beside flock(1).
func (d *benchDir) benchColdStart(b *testing.B, row func(...string)) {
	s := d.startLockerd(b, false)
	defer s.stop()
	var flock, lock []benchResult
	for range benchRounds {
		flock = append(flock, timeCommand(b, "flock", d.file(1), "true"))
		lock = append(lock, timeCommand(b, filepath.Join(d.dir, "locker"), "lock", "--socket", s.socket, d.file(0)))
	}
	ms := func(r benchResult) float64 { return float64(r.P50) / 1e6 }
	row("`locker lock` beside `flock FILE true`, from spawn to exit, p50 ms", format(median(flock, ms)), format(median(lock, ms)), format(medianRatio(lock, flock, ms)))
}

func timeCommand(b *testing.B, name string, args ...string) benchResult {
	b.Helper()
	r, err := timed(name, args...)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func timed(name string, args ...string) (benchResult, error) {
	var took []int64
	for range 100 {
		t0 := time.Now()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return benchResult{}, fmt.Errorf("%s: %v %s", name, err, out)
		}
		took = append(took, int64(time.Since(t0)))
	}
	slices.Sort(took)
	return benchResult{P50: took[len(took)/2], P99: took[len(took)*99/100]}, nil
}
