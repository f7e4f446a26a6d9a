package client

import (
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

func TestALockSurvivesTheDeathOfTheServer(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a", "/b"}}, 4, 5)
		if d := asleep(func() {
			for range 3 {
				s = h.revive(s)
				s.resumes(firstSession, 4, 5)
				keeps(t, l)
				s.works(c)
			}
		}); d != 0 {
			t.Errorf("it took %v to come back to a lockerd that was there", d)
		}
		if l.Token() != 5 {
			t.Errorf("token %d, want 5", l.Token())
		}
		if w := c.Welcome(); w.Session != firstSession {
			t.Errorf("session %d, want %d", w.Session, firstSession)
		}
		done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
		first, m := expect[*wire.Unlock](s)
		s.say(first, &wire.Released{IDs: []uint64{m.ID}})
		s.frees(9 - m.ID)
		if got := <-done; got.err != nil {
			t.Error("Unlock:", got.err)
		}
	})
}

func TestAWaitingLockIsSentAgainWithItsRequestID(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		places := make(chan uint32, 9)
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}, Reason: "r", OnQueued: func(q Queue) { places <- q.Position }})
		id, asked := expect[*wire.Lock](s)
		s.say(id, &wire.Queued{Position: 2})
		<-places
		s = h.revive(s)
		s.resumes(firstSession)
		again, m := expect[*wire.Lock](s)
		if again != id || m.Reason != asked.Reason || m.Paths[0] != "/a" {
			t.Errorf("request %d %+v is sent again as %d %+v", id, asked, again, m)
		}
		s.say(id, &wire.Queued{Position: 1})
		if p := <-places; p != 1 {
			t.Errorf("position %d, want 1", p)
		}
		s.say(id, grants(5))
		s.say(id, grants(5)) // the answer to what was sent twice may come twice
		got := <-done
		if got.err != nil || got.value.Token() != 5 {
			t.Errorf("Lock = %+v", got)
		}
		s.works(c)
		keeps(t, got.value)
	})
}

func TestRequestsAreSentAgainInTheirOrder(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		c.mu.Lock()
		c.last = 1<<32 - 3 // the numbers begin anew on the way
		c.mu.Unlock()
		var ids []uint32
		for range 5 {
			start(func() (*Status, error) { return c.Status(t.Context()) })
			id, _ := expect[*wire.Status](s)
			ids = append(ids, id)
			if id <= greeting {
				t.Errorf("request id %d is taken: it is that of events or of the greeting", id)
			}
		}
		s = h.revive(s)
		for i, id := range ids {
			again, _ := expect[*wire.Status](s)
			if again != id {
				t.Errorf("number %d of %v is sent again as %d", i, ids, again)
			}
			s.say(again, &wire.StatusReply{})
		}
		synctest.Wait()
	})
}

func TestWhatIsMissingAfterTheResumeIsLost(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a", "/b"}}, 4, 5)
		detached := held(t, c, s, Request{Paths: []string{"/c"}, Detached: true}, 6)
		s = h.revive(s)
		s.resumes(firstSession, 5)
		loss := <-l.Lost()
		if loss.Token != 4 || loss.Path != "/a" || loss.Cause != Disconnected || CodeOf(loss) != CodeLost {
			t.Errorf("loss %+v", loss)
		}
		keeps(t, l)
		keeps(t, detached)
	})
}

func TestAForgottenSessionLosesItsLocksAndTheClientGoesOn(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		detached := held(t, c, s, Request{Paths: []string{"/b"}, Detached: true}, 5)
		waits := startLock(t.Context(), c, Request{Paths: []string{"/c"}})
		id, _ := expect[*wire.Lock](s)
		s = h.revive(s)
		s.forgot()
		if loss := <-l.Lost(); loss.Token != 4 || loss.Cause != Disconnected {
			t.Errorf("loss %+v", loss)
		}
		if again, _ := expect[*wire.Lock](s); again != id {
			t.Errorf("request %d is sent again as %d", id, again)
		}
		s.say(id, grants(6))
		second := (<-waits).value
		keeps(t, detached)
		s = h.revive(s)
		s.resumes(firstSession+1, 6) // the one that it was given instead
		keeps(t, second)
		s = h.revive(s)
		s.forgot()
		<-second.Lost()
		s = h.revive(s)
		s.works(c) // without a Resume: there is nothing left of it
	})
}

func TestNothingIsResumedWhereNothingIsHeld(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		held(t, c, s, Request{Paths: []string{"/a"}, Detached: true}, 4)
		s = h.revive(s)
		s.works(c) // without a Resume before it
		if w := c.Welcome(); w.Session != firstSession+1 {
			t.Errorf("session %d, want %d", w.Session, firstSession+1)
		}
	})
}

func TestAServerThatComesBackLateIsStillInTime(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		h.deaf.Store(true)
		s.conn.Close()
		<-time.After(patience - time.Second) // virtual
		synctest.Wait()
		h.deaf.Store(false)
		h.accept().conn.Close() // once more before it says anything
		s = h.accept()
		s.welcomeAs(wire.Version, firstSession+1)
		expect[*wire.Resume](s)
		s.conn.Close() // and once more before it answers
		s = h.accept()
		s.welcomeAs(wire.Version, firstSession+2)
		s.resumes(firstSession, 4)
		keeps(t, l)
		s.works(c)
	})
}

func TestAServerThatDiesAtOnceAgainAndAgainIsAskedWithPauses(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		s.conn.Close()
		began := time.Now()
		for time.Since(began) < 10*time.Second {
			s = h.accept()
			s.welcomeAs(wire.Version, 9)
			s.resumes(firstSession, 4)
			s.conn.Close()
		}
		if n := h.attempts.Load(); n < 90 || n > 130 {
			t.Errorf("%d attempts in 10 s", n)
		}
	})
}

func TestAServerThatIsShortOfRoomIsAskedAgain(t *testing.T) {
	for _, code := range []wire.Code{wire.CodeLimit, wire.CodeUnavailable} {
		hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
			l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
			s.conn.Close()
			full := h.accept()
			expect[*wire.Hello](full)
			full.say(0, &wire.Error{Code: code, Text: "too many connections"})
			full.conn.Close()
			if keeps(t, l); t.Failed() {
				t.Fatalf("after Error %v", code)
			}
			s = h.accept()
			s.welcomeAs(wire.Version, 9)
			s.resumes(firstSession, 4)
			keeps(t, l)
		})
	}
}
