package broker

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// BenchmarkIdleWake is the whole way from the moment before the last one who has a bundle's token open closes it to the answer in its
// waiter's hands.
func BenchmarkIdleWake(b *testing.B) {
	r := newRig(b, func(r *rig) { r.segment = 64 << 20 })
	bundle, token := r.mac()
	mac := startChild(b, "stamps", token)
	p := r.dial()
	var took []time.Duration
	for b.Loop() {
		mac.asks()
		id := p.send(attached(bundle))
		p.queued(id)
		closing := mac.asks()
		g := grants(b, p.answer(id))
		took = append(took, monotonic()-closing)
		rest(b, g, idleRests)
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
}

// asks has the child that stamps go on, and gives its time.
func (c *child) asks() time.Duration {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in)
	must(c.t, err)
	line, err := c.out.ReadString('\n')
	must(c.t, err)
	ns, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	must(c.t, err)
	return time.Duration(ns)
}

func stamps(path string) error {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		fmt.Println(0)
		in.Scan()
		now := monotonic()
		if err := f.Close(); err != nil {
			return err
		}
		fmt.Println(int64(now))
	}
	return nil
}

// monotonic reads a clock that is the same in every process. clock_gettime(2)
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}
