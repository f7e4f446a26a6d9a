package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

// What becomes of requests whose connection breaks.

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

func TestWhatIsAskedMeanwhileIsSentWhenTheServerIsBack(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		h.deaf.Store(true)
		s.conn.Close()
		synctest.Wait()
		lock := startLock(t.Context(), c, Request{Paths: []string{"/b"}})
		synctest.Wait()
		unlock := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
		synctest.Wait()
		h.deaf.Store(false)
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		s.resumes(firstSession, 4)
		id, _ := expect[*wire.Lock](s)
		s.say(id, grants(5))
		s.frees(4)
		if got := <-lock; got.err != nil {
			t.Error("Lock:", got.err)
		}
		if got := <-unlock; got.err != nil {
			t.Error("Unlock:", got.err)
		}
		if loss, ok := <-l.Lost(); ok {
			t.Errorf("Lost gave %v", loss)
		}
	})
}

func TestATimeoutGoesOnDuringAnOutage(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		waits := startLock(t.Context(), c, Request{Paths: []string{"/a"}, Timeout: time.Minute})
		short := startLock(t.Context(), c, Request{Paths: []string{"/b"}, Timeout: 5 * time.Second})
		for range 2 {
			expect[*wire.Lock](s)
		}
		for _, want := range [][]time.Duration{{0, 50 * time.Second}, {0, 40 * time.Second}} {
			s.conn.Close()
			<-time.After(10 * time.Second) // virtual
			s = h.accept()
			s.welcomeAs(wire.Version, 8)
			s.resumes(firstSession)
			var got []time.Duration
			for range 2 {
				id, m := expect[*wire.Lock](s)
				got = append(got, m.Timeout)
				if want[1] == 40*time.Second {
					s.say(id, &wire.Error{Code: wire.CodeTimeout})
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("timeouts of those sent again: %v, want %v", got, want)
			}
		}
		<-waits
		<-short
	})
}

// Between the Unlock and its answer lockerd dies; afterwards the hold is gone, because it did what it was asked.
func TestAnUnlockThatWasDoneUnheardIsASuccess(t *testing.T) {
	for name, answer := range map[string]wire.Message{
		"not found": &wire.Error{Code: wire.CodeNotFound}, "nothing": &wire.Released{}, "it was not done": &wire.Released{IDs: []uint64{4}},
	} {
		for _, detached := range []bool{false, true} {
			for _, forgotten := range []bool{false, true} {
				hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
					l := held(t, c, s, Request{Paths: []string{"/a"}, Detached: detached}, 4)
					done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
					id, _ := expect[*wire.Unlock](s)
					s = h.revive(s)
					if forgotten && !detached {
						s.forgot()
					} else if !detached {
						s.resumes(firstSession)
					}
					again, m := expect[*wire.Unlock](s)
					if again != id || m.ID != 4 {
						t.Errorf("%s: request %d is sent again as %d %+v", name, id, again, m)
					}
					s.say(id, answer)
					if got := <-done; got.err != nil {
						t.Errorf("%s, detached %v: Unlock = %v", name, detached, got.err)
					}
					if loss, ok := <-l.Lost(); ok {
						t.Errorf("%s, detached %v: Lost gave %v", name, detached, loss)
					}
				})
			}
		}
	}
}

func TestAnUnlockByPathThatWasDoneUnheardIsNoLoss(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		done := start(func() ([]uint64, error) { return c.UnlockPaths(t.Context(), "", "/a") })
		expect[*wire.Unlock](s)
		s = h.revive(s)
		s.resumes(firstSession)
		id, _ := expect[*wire.Unlock](s)
		s.say(id, &wire.Released{IDs: []uint64{0}})
		if got := <-done; got.err != nil {
			t.Error("UnlockPaths:", got.err)
		}
		if loss, ok := <-l.Lost(); ok {
			t.Errorf("Lost gave %v", loss)
		}
	})
}

// Not so when the hold was gone before lockerd can have read the Unlock.
func TestALossBeforeTheUnlockIsALoss(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		h.deaf.Store(true)
		s.conn.Close()
		synctest.Wait()
		done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
		synctest.Wait()
		h.deaf.Store(false)
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		s.resumes(firstSession)
		if loss, ok := <-l.Lost(); !ok || loss.Cause != Disconnected {
			t.Errorf("Lost gave %v, %v", loss, ok)
		}
		id, _ := expect[*wire.Unlock](s)
		s.say(id, &wire.Error{Code: wire.CodeNotFound})
		if got := <-done; got.err != nil {
			t.Error("Unlock:", got.err)
		}
	})
}

func TestALossIsToldOnceAcrossAnOutage(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		lost := &wire.Lost{ID: 4, Cause: wire.Broken, Grace: time.Second}
		l := held(t, c, s, Request{Paths: []string{"/a", "/b"}}, 4, 5)
		s.say(0, lost)
		s = h.revive(s)
		s.resumes(firstSession, 4, 5) // in its grace
		s.say(0, lost)
		if loss := <-l.Lost(); loss.Token != 4 || loss.Cause != Broken {
			t.Errorf("loss %+v", loss)
		}
		keeps(t, l)
		s = h.revive(s)
		s.resumes(firstSession, 5)
		keeps(t, l)
	})
}

func TestALossThatOvertakesAGrantOutlivesAnOutage(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}})
		id, _ := expect[*wire.Lock](s)
		s.say(0, &wire.Lost{ID: 4, Cause: wire.Broken, Grace: time.Second})
		s = h.revive(s)
		s.resumes(firstSession, 4)
		expect[*wire.Lock](s)
		s.say(id, grants(4))
		l := (<-done).value
		if loss, ok := <-l.Lost(); !ok || loss.Cause != Broken {
			t.Errorf("loss %+v, %v", loss, ok)
		}
	})
}

func TestAListBeginsAnew(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		row := func(id uint64) wire.Row {
			return wire.Row{Kind: wire.RowHolder, ID: id, Path: "/a", Mode: wire.Exclusive, Rests: wire.RestOFD, Life: wire.Attached}
		}
		done := start(func() ([]Row, error) { return c.List(t.Context(), true) })
		id, _ := expect[*wire.List](s)
		s.say(id, &wire.Rows{More: true, Rows: []wire.Row{row(1), row(2)}})
		s = h.revive(s)
		expect[*wire.List](s)
		s.say(id, &wire.Rows{More: true, Rows: []wire.Row{row(1)}})
		s.say(id, &wire.Rows{Rows: []wire.Row{row(3)}})
		if got := <-done; got.err != nil || len(got.value) != 2 || got.value[0].ID != 1 || got.value[1].ID != 3 {
			t.Errorf("List = %+v", got)
		}
	})
}

func TestAWatchGoesOnAndLooksAgain(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		calls, enough := make(chan bool), errors.New("enough")
		done := start(func() (bool, error) {
			return true, c.Watch(t.Context(), func() error {
				if !<-calls {
					return enough
				}
				return nil
			})
		})
		id, _ := expect[*wire.Watch](s)
		calls <- true // once as it begins
		s = h.revive(s)
		if again, _ := expect[*wire.Watch](s); again != id {
			t.Errorf("request %d is sent again as %d", id, again)
		}
		calls <- true // for what changed meanwhile
		s.say(id, &wire.Changed{})
		calls <- false
		bye, m := expect[*wire.Cancel](s)
		if m.Target != id {
			t.Errorf("Cancel names %d, want %d", m.Target, id)
		}
		s.say(bye, &wire.Done{})
		if got := <-done; got.err != enough {
			t.Errorf("Watch = %v", got.err)
		}
	})
}

func TestWhereAWaitingLockStandsIsAskedAgain(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		places := make(chan uint32, 9)
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}, Refresh: time.Second, OnQueued: func(q Queue) { places <- q.Position }})
		id, _ := expect[*wire.Lock](s)
		s.say(id, &wire.Queued{Position: 3})
		<-places
		where, _ := expect[*wire.Where](s)
		s = h.revive(s)
		s.resumes(firstSession)
		expect[*wire.Lock](s)
		again, m := expect[*wire.Where](s)
		if again != where || m.Target != id {
			t.Errorf("request %d is sent again as %d, about %d", where, again, m.Target)
		}
		s.say(where, &wire.Queued{Position: 2})
		if p := <-places; p != 2 {
			t.Errorf("position %d, want 2", p)
		}
		s.say(id, grants(4))
		<-done
	})
}

func TestABreakByPathIsNotSentAgain(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		byPath := start(func() ([]uint64, error) { return c.BreakPath(t.Context(), "/a", "r") })
		expect[*wire.Break](s)
		byID := start(func() ([]uint64, error) { return c.BreakID(t.Context(), 9, "r") })
		expect[*wire.Break](s)
		h.deaf.Store(true)
		s.conn.Close()
		synctest.Wait()
		later := start(func() ([]uint64, error) { return c.BreakPath(t.Context(), "/b", "r") })
		synctest.Wait()
		h.deaf.Store(false)
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		if got := <-byPath; CodeOf(got.err) != CodeShutdown {
			t.Errorf("BreakPath = %+v, want CodeShutdown", got)
		}
		id, m := expect[*wire.Break](s)
		if m.ID != 9 {
			t.Errorf("sent again: %+v", m)
		}
		s.say(id, &wire.Released{IDs: []uint64{9}})
		id, m = expect[*wire.Break](s)
		if m.Path != "/b" {
			t.Errorf("sent at last: %+v", m)
		}
		s.say(id, &wire.Released{IDs: []uint64{10}})
		<-byID
		<-later
		s.silent()
	})
}
