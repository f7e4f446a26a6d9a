//go:build torture

package keeper

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// For the torture test alone, which builds lockerd with -tags torture:
//
//	LOCKERD_TORTURE_STEP=name=probability[,name=…]   the process kills itself at these steps, so often
//	LOCKERD_TORTURE_BUG=bug                          it has this bug, which the test must find

var stepOdds = sync.OnceValue(func() map[string]float64 {
	odds := map[string]float64{}
	for item := range strings.SplitSeq(os.Getenv("LOCKERD_TORTURE_STEP"), ",") {
		name, p, ok := strings.Cut(item, "=")
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(p, 64)
		if err != nil {
			panic("LOCKERD_TORTURE_STEP: " + err.Error())
		}
		odds[name] = f
	}
	return odds
})

var seededBug = sync.OnceValue(func() string { return os.Getenv("LOCKERD_TORTURE_BUG") })

// Step kills the process here, with the probability that the environment gives the step.
func Step(name string) {
	if p := stepOdds()[name]; p > 0 && rand.Float64() < p {
		unix.Kill(unix.Getpid(), unix.SIGKILL)
		select {} // the signal is on its way
	}
}

// Seeded reports whether the environment asks for this bug.
func Seeded(bug string) bool { return seededBug() == bug }
