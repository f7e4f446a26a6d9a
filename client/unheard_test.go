package client

import (
	"locker/wire"
	"testing"
	"testing/synctest"
	"time"
)

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
