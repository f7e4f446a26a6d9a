package broker

import (
	"context"
	"sync"
	"time"
)

// slots bounds how many do something at once. The bound may change while they do.
type slots struct {
	mu    sync.Mutex // guards all below
	limit int
	used  int
	freed chan struct{} // closed when there may be a free slot; nil: nobody waits
}

func (s *slots) set(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.wake()
}

func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// wake has those who wait look again. The caller holds mu.
func (s *slots) wake() {
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}

// acquire takes a slot, waiting for it at most wait (0: for ever); false if there was none, or ctx ended.
func (s *slots) acquire(ctx context.Context, wait time.Duration) bool {
	var over <-chan time.Time
	for {
		s.mu.Lock()
		if s.used < s.limit {
			s.used++
			s.mu.Unlock()
			return true
		}
		if s.freed == nil {
			s.freed = make(chan struct{})
		}
		freed := s.freed
		s.mu.Unlock()
		if over == nil && wait > 0 {
			t := time.NewTimer(wait)
			defer t.Stop()
			over = t.C
		}
		select {
		case <-freed:
		case <-over:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// release gives a slot back.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	s.wake()
}

// acquireBoth takes a slot of each, or none.
func acquireBoth(ctx context.Context, first, second *slots, wait time.Duration) bool {
	if !first.acquire(ctx, wait) {
		return false
	}
	if !second.acquire(ctx, wait) {
		first.release()
		return false
	}
	return true
}
