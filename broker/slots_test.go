package broker

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlotsAreNeverMoreThanTheBoundAndAFreeOneIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s slots
		s.set(2)
		var now, most atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if !s.acquire(t.Context(), 0) {
					t.Error("not acquired")
				}
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				<-time.After(time.Second)
				now.Add(-1)
				s.release()
			})
		}
		began := time.Now()
		wg.Wait()
		if took := time.Since(began); most.Load() != 2 || took != 5*time.Second {
			t.Errorf("%d at once, all done after %v", most.Load(), took)
		}
	})
}

func TestWaitingForASlotEndsWithItsTimeItsContextOrAHigherBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first, second slots
		first.set(1)
		began := time.Now()
		if acquireBoth(t.Context(), &first, &second, 2*time.Second) || time.Since(began) != 2*time.Second {
			t.Errorf("after %v", time.Since(began))
		}
		if n := first.inUse(); n != 0 {
			t.Errorf("%d of the first are in use, and none of the second", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if second.acquire(ctx, 0) {
			t.Error("acquired what there is not")
		}
		time.AfterFunc(time.Second, func() { second.set(1) })
		if !acquireBoth(t.Context(), &first, &second, time.Minute) {
			t.Error("not acquired, though the bound was raised")
		}
	})
}
