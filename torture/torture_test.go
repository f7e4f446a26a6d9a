package torture

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// sizes of a run: kills of broker and keeper each; a long one is asked for by LOCKER_TORTURE.
func runSize() (kills int, most time.Duration) {
	if n, err := strconv.Atoi(os.Getenv("LOCKER_TORTURE")); err == nil && n > 0 {
		return n, 1<<63 - 1
	}
	if underRace() {
		return 1 << 30, 12 * time.Second // enough to look at the harness itself
	}
	return 1 << 30, time.Minute
}

func runSeed(t *testing.T) uint64 {
	if text := os.Getenv("LOCKER_TORTURE_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("LOCKER_TORTURE_SEED: %v", err)
		}
		return seed
	}
	return uint64(time.Now().UnixNano())
}

// TestTorture kills for a minute, or as often as LOCKER_TORTURE says.
func TestTorture(t *testing.T) {
	kills, most := runSize()
	seed := runSeed(t)
	r := newRun(t, buildLockerd(t), "", seed)
	defer r.finish()
	r.wanted = kills
	fmt.Printf("torture: seed %d\n", seed)
	stop := r.progress()
	defer stop()
	begun := time.Now()
	for n := 0; r.more() && time.Since(begun) < most; n++ {
		if !r.play(r.next(n, most)) {
			break
		}
	}
	for _, name := range r.drill.unreached(r.steps) {
		if r.ctx.Err() == nil {
			t.Errorf("no process ever came to the step %s", name)
		}
	}
	fmt.Printf("%s%s\nself-kills:", r.table(), r.mixture())
	for _, name := range slices.Sorted(maps.Keys(r.steps)) {
		fmt.Printf(" %s %d", name, r.steps[name])
	}
	fmt.Println()
}

// more reports whether some kills are still to be done.
func (r *run) more() bool {
	s := r.sum()
	return s.brokers < r.wanted || s.keepers < r.wanted
}

// next gives the plan of round n. A minute has all of them once; more rounds go on in turn.
func (r *run) next(n int, most time.Duration) plan {
	long := most > time.Minute
	length := most / 6
	if long {
		length = 15 * time.Second
	}
	const clients = 11
	timed := func(kill func(k *killer, ctx context.Context, enough func() bool) error) func(context.Context, *killer) error {
		return func(ctx context.Context, k *killer) error {
			end := time.Now().Add(length)
			return kill(k, ctx, func() bool { return time.Now().After(end) || !r.more() })
		}
	}
	stepsOf := func(who role) func(context.Context, *killer) error {
		return func(ctx context.Context, k *killer) error {
			end, rounds := time.Now().Add(length), r.drill.round(who)
			return k.atSteps(ctx, who, func() bool { return time.Now().After(end) && r.drill.round(who) > rounds })
		}
	}
	plans := []plan{
		{"random, " + shortHolds.Name, shortHolds, clients, timed((*killer).atRandom)},
		{"random, " + longHolds.Name, longHolds, clients, timed((*killer).atRandom)},
		{"at each step of the broker", shortHolds, clients, stepsOf(brokerRole)},
		{"at each step of the keeper", longHolds, clients, stepsOf(keeperRole)},
		{"both together", longHolds, clients, timed((*killer).together)},
	}
	if long && n >= len(plans) {
		n = []int{0, 1, 0, 1, 2, 0, 1, 0, 1, 3, 0, 1, 0, 1, 4}[n%15]
	}
	return plans[n%len(plans)]
}

// progress prints a line now and then, until the function that it gives is called.
func (r *run) progress() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			s := r.sum()
			fmt.Printf("torture: %v: broker %d, keeper %d, clients %d killed; both dead %d times; %d grants, %d probes; %.1f kills/s\n",
				s.took.Round(time.Second), s.brokers, s.keepers, s.clients, s.doubles, s.counts[grants], s.probes, float64(s.brokers+s.keepers)/s.took.Seconds())
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
