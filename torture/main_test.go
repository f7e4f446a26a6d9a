package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"time"
)

// TestMain lets the test binary be a client or the prober: they are processes of their own.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

const (
	roleEnv = "LOCKER_TORTURE_ROLE"
	partEnv = "LOCKER_TORTURE_PART" // JSON of a part
)

// part is what a client or the prober is told.
type part struct {
	Memory  string // file of the shared memory
	Files   string // directory of the files to lock
	Events  string // file to append events to
	History string // file to append holds to
	Socket  string
	Slot    int    // which client, from 0
	Life    uint32 // which life of that client, from 1
	Seed    uint64
	Mix     mix
}

// mix is what kind of load the clients make.
type mix struct {
	Name  string
	Hold  time.Duration // at most
	Think time.Duration // between two locks, at most
	Wait  time.Duration // who waits for a time only: at most so long
	Quiet int           // locks that are held all the while: more to keep, and to send again
}

// Short holds see most of a grant's steps; long ones are still there when what was forgotten is missed.
var (
	shortHolds = mix{Name: "holds ≤ 3 ms", Hold: 3 * time.Millisecond, Think: 6 * time.Millisecond, Wait: 6 * time.Millisecond, Quiet: 4}
	longHolds  = mix{Name: "holds ≤ 60 ms", Hold: 60 * time.Millisecond, Think: 40 * time.Millisecond, Wait: 40 * time.Millisecond, Quiet: 40}
)

func play(role string) int {
	var p part
	err := json.Unmarshal([]byte(os.Getenv(partEnv)), &p)
	if err == nil {
		switch role {
		case "client":
			err = clientMain(p)
		case "prober":
			err = proberMain(p)
		default:
			err = fmt.Errorf("unknown role %q", role)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		return 1
	}
	return 0
}

// underRace reports whether this binary was built with the race detector, which makes all of it several times slower.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return false
	}
	for _, s := range info.Settings {
		if s.Key == "-race" && s.Value == "true" {
			return true
		}
	}
	return false
}
