package client

import (
	"context"
	"locker/wire"
	"testing"
	"testing/synctest"
	"time"
)

func TestAGivenUpLockIsNotHeldAfterTheResume(t *testing.T) {
	for name, granted := range map[string]bool{"it leaves the queue": false, "its late grant is released": true} {
		hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
			ctx, cancel := context.WithCancel(t.Context())
			done := startLock(ctx, c, Request{Paths: []string{"/a", "/b"}})
			id, _ := expect[*wire.Lock](s)
			h.deaf.Store(true)
			s.conn.Close()
			synctest.Wait()
			cancel()
			synctest.Wait()
			h.deaf.Store(false)
			s = h.accept()
			s.welcomeAs(wire.Version, 8)
			s.resumes(firstSession, 4, 5) // perhaps it was granted, and the answer did not come through
			again, _ := expect[*wire.Lock](s)
			bye, m := expect[*wire.Cancel](s)
			if again != id || m.Target != id {
				t.Errorf("%s: request %d is sent again as %d, and %d cancelled", name, id, again, m.Target)
			}
			if granted {
				s.say(id, grants(4, 5))
				s.say(bye, &wire.Done{})
				first, m := expect[*wire.Unlock](s)
				s.say(first, &wire.Released{IDs: []uint64{m.ID}})
				s.frees(9 - m.ID)
			} else {
				s.say(id, &wire.Error{Code: wire.CodeCanceled})
				s.say(bye, &wire.Done{})
			}
			if err := (<-done).err; err != context.Canceled {
				t.Errorf("%s: Lock = %v, want context.Canceled", name, err)
			}
			if n := pending(c); n != 0 || len(c.holds) != 0 {
				t.Errorf("%s: left over: %d calls, holds %v", name, n, c.holds)
			}
		})
	}
}

// The same when the outage lasts longer than Lock waits, and for a hold that would stay for ever.
func TestAGivenUpLockIsReleasedHoweverLongTheServerIsAway(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := startLock(ctx, c, Request{Paths: []string{"/a"}, Detached: true})
		id, _ := expect[*wire.Lock](s)
		h.deaf.Store(true)
		s.conn.Close()
		if d := asleep(func() { <-done }); d != time.Second+settle {
			t.Errorf("Lock returned after %v, want %v", d, time.Second+settle)
		}
		<-time.After(10 * time.Second) // virtual
		h.deaf.Store(false)
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		s.resumes(firstSession)
		expect[*wire.Lock](s)
		expect[*wire.Cancel](s)
		s.say(id, grants(5))
		expect[*wire.Unlock](s) // and dies again before it has heard that
		s = h.revive(s)
		bye, _ := expect[*wire.Cancel](s)
		s.say(bye, &wire.Done{})
		s.frees(5)
		if n := pending(c); n != 0 || len(c.holds) != 0 {
			t.Errorf("left over: %d calls, holds %v", n, c.holds)
		}
	})
}

func TestACancelIsSentAgainBehindItsLock(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		done := startLock(ctx, c, Request{Paths: []string{"/a"}})
		id, _ := expect[*wire.Lock](s)
		cancel()
		expect[*wire.Cancel](s)
		s = h.revive(s)
		s.resumes(firstSession)
		if again, _ := expect[*wire.Lock](s); again != id {
			t.Errorf("request %d is sent again as %d", id, again)
		}
		bye, m := expect[*wire.Cancel](s)
		if m.Target != id {
			t.Errorf("Cancel names %d, want %d", m.Target, id)
		}
		s.say(id, &wire.Error{Code: wire.CodeCanceled})
		s.say(bye, &wire.Done{})
		if err := (<-done).err; err != context.Canceled {
			t.Errorf("Lock = %v, want context.Canceled", err)
		}
	})
}

func TestAGivenUpLockOfAForgottenSessionIsOver(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		done := startLock(ctx, c, Request{Paths: []string{"/a"}})
		expect[*wire.Lock](s)
		s.conn.Close()
		synctest.Wait()
		cancel()
		synctest.Wait()
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		s.forgot()
		if err := (<-done).err; err != context.Canceled {
			t.Errorf("Lock = %v, want context.Canceled", err)
		}
		bye, _ := expect[*wire.Cancel](s)
		s.say(bye, &wire.Done{})
		if n := pending(c); n != 0 {
			t.Errorf("%d calls are left over", n)
		}
	})
}

func TestWhatNobodyWaitsForAnyMoreIsNotSent(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		before := start(func() (*Status, error) { return c.Status(ctx) })
		expect[*wire.Status](s)
		s.conn.Close()
		synctest.Wait()
		list := start(func() ([]Row, error) { return c.List(ctx, true) })
		watch := start(func() (bool, error) { return true, c.Watch(ctx, func() error { return nil }) })
		lock := startLock(ctx, c, Request{Paths: []string{"/a"}})
		synctest.Wait()
		cancel()
		for _, err := range []error{(<-before).err, (<-list).err, (<-watch).err, (<-lock).err} {
			if err != context.Canceled {
				t.Errorf("got %v, want context.Canceled", err)
			}
		}
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		s.silent()
	})
}

// Answer and end of the context are there before Lock looks: whichever it takes, the lock is its caller's or nobody's.
func TestGrantInTheMomentOfGivingUpIsReleased(t *testing.T) {
	given := 0
	for range 40 {
		bubble(t, func(t *testing.T, c *Client, s *fake) {
			ctx, cancel := context.WithCancel(t.Context())
			look := make(chan bool)
			done := startLock(ctx, c, Request{Paths: []string{"/a"}, OnQueued: func(Queue) { <-look }})
			id, _ := expect[*wire.Lock](s)
			s.say(id, &wire.Queued{Position: 1})
			s.say(id, grants(5))
			synctest.Wait()
			cancel()
			synctest.Wait()
			close(look)
			synctest.Wait()
			select {
			case got := <-done:
				if got.err != nil {
					t.Errorf("Lock = %v, and the grant was not released", got.err)
				}
			default:
				given++
				s.frees(5)
				if err := (<-done).err; err != context.Canceled {
					t.Errorf("Lock = %v, want context.Canceled", err)
				}
			}
		})
	}
	if given == 0 {
		t.Error("Lock never chose to give up")
	}
}
