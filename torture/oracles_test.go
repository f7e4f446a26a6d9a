package torture

import (
	"context"
	"testing"
	"time"
)

// Where nobody is killed nothing is found, in either mix: what the harness finds is not its own doing.
func TestTheHarnessFindsNothingWhereNobodyIsKilled(t *testing.T) {
	r := newRun(t, buildLockerd(t), "", runSeed(t))
	defer r.finish()
	for _, m := range []mix{shortHolds, longHolds} {
		r.play(plan{m.Name, m, 0, func(ctx context.Context, k *killer) error {
			select {
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
			}
			return nil
		}})
	}
	t.Logf("\n%s%s", r.table(), r.mixture())
}
