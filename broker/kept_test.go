package broker

import (
	"context"
	"testing"
	"time"
)

func TestAHandOverWaitsForAKeeperThatHasEverything(t *testing.T) {
	r, s := withKeeper(t, nil)
	r.dial2().granted(attached(r.file("a")))
	must(t, r.b.AwaitKept(t.Context()))
	s.end() // and nobody need have noticed yet
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := r.b.AwaitKept(short); err == nil {
		t.Error("handed over to nobody")
	}
	s.start()
	must(t, r.b.AwaitKept(t.Context()))
	s.leave()
	if ids := s.inKeeper(nil); len(ids) != 1 {
		t.Errorf("kept %v", ids)
	}
	s.back()
}

// Stopping lets go of what is held, at once, whether or not the keeper runs on; and the next run has it again, as the log says that
// it is to be held, also when a start in between does not get so far.
func TestAStopLeavesNothingInTheKeeperAndTheNextStartHasItAgain(t *testing.T) {
	for _, between := range []string{"nothing", "a start that fails"} {
		t.Run(between, func(t *testing.T) {
			r, s := withKeeper(t, nil)
			path := r.file("a")
			g := r.dial2().granted(detached(path))
			r.halt()
			if ids := s.inKeeper(nil); len(ids) != 0 {
				t.Errorf("after the stop the keeper has %v", ids)
			}
			if between != "nothing" {
				if err := s.startWithoutDescriptors(); !isShortage(err) {
					t.Fatalf("New says %v", err)
				}
			}
			s.back()
			s.leave()
			if ids := s.inKeeper(nil); len(ids) != 1 || ids[0] != g[0].ID {
				t.Errorf("after the start the keeper has %v, want %+v", ids, g)
			}
			s.back()
		})
	}
}
