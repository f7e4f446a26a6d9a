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
