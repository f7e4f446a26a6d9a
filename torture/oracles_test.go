package torture

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	if err := r.log.check([]span{{token: 1 << 60}}, r.files(), nil); err == nil {
		t.Error("an answered grant that is not in the log was not missed")
	}
	if err := r.log.check(nil, r.files(), []uint64{1 << 60}); err == nil {
		t.Error("a gap that is not in the log was not missed")
	}
}

// A step that is in the code and not in the drill would never be died at; one that is only in the drill would be waited for in vain.
func TestEveryStepOfTheCodeIsDrilled(t *testing.T) {
	var coded []string
	call := regexp.MustCompile(`\bStep\("([^"]+)"\)`)
	for _, dir := range []string{"../broker", "../keeper", "../cmd/lockerd"} {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range call.FindAllStringSubmatch(string(text), -1) {
				if !strings.HasSuffix(name, "_test.go") {
					coded = append(coded, m[1])
				}
			}
		}
	}
	var drilled []string
	for _, step := range slices.Concat(steps[brokerRole], steps[keeperRole]) {
		name, _, _ := strings.Cut(step, "=")
		drilled = append(drilled, name)
	}
	slices.Sort(coded)
	slices.Sort(drilled)
	if coded = slices.Compact(coded); !slices.Equal(coded, drilled) {
		t.Errorf("steps\n in the code %v\n  in the drill %v", coded, drilled)
	}
}
