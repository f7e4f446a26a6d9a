package torture

import (
	"context"
	"testing"
	"time"
)

// The bugs that lockerd has when LOCKERD_TORTURE_BUG says so.
const (
	bugNoKeeper = "no-keeper" // the broker runs without one
	bugNoGrace  = "no-grace"  // holds that are waited for are let go at once
	bugForgets  = "forgets"   // the keeper loses one PUT of 200
	bugNoPut    = "no-put"    // grants are not kept
	bugNoUpload = "no-upload" // nothing is sent again to a new keeper
	bugNoSync   = "no-sync"   // a new keeper is not asked whether it has got it
)

// seededMix has many locks, so that one that is forgotten is soon missed.
var seededMix = mix{Name: "seeded", Hold: longHolds.Hold, Think: longHolds.Think, Wait: longHolds.Wait, Quiet: quiet}

// searching is how long a bug is looked for. They are found within seconds, but for one that needs many kills on a machine that is slow.
const searching = 4 * time.Minute

// TestTheHarnessFindsEachSeededBug: a harness that finds nothing proves nothing.
func TestTheHarnessFindsEachSeededBug(t *testing.T) {
	lockerd := buildLockerd(t)
	bugs := []string{bugNoKeeper, bugNoGrace, bugForgets, bugNoPut, bugNoUpload, bugNoSync}
	if underRace() {
		bugs = bugs[:1] // it is the harness that the race detector looks at
	}
	for _, bug := range bugs {
		t.Run(bug, func(t *testing.T) {
			r := newRun(t, lockerd, bug, runSeed(t))
			defer r.end()
			begun := time.Now()
			for time.Since(begun) < searching && r.ctx.Err() == nil {
				r.play(plan{"seeded " + bug, seededMix, 0, func(ctx context.Context, k *killer) error {
					k.slow = 60 // only those show that SYNC is missing
					end := time.Now().Add(20 * time.Second)
					return k.atRandom(ctx, func() bool { return time.Now().After(end) })
				}})
			}
			s := r.sum()
			if r.first.kind == "" {
				t.Fatalf("not found in %v, %d kills", s.took, s.brokers+s.keepers)
			}
			if r.first.kind == "end" || r.first.kind == "log" {
				t.Fatalf("found something else: %s", r.describe())
			}
			t.Logf("found in %v, by %d kills: %s: %s", s.took.Round(time.Millisecond), s.brokers+s.keepers, r.first.kind, r.first.text)
		})
	}
}
