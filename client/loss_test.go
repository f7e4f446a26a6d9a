package client

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

func TestLostFiresOnceForEachFileAndThenCloses(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a", "/b"}}, 1, 2)
		s.say(0, &wire.Lost{ID: 2, Cause: wire.Broken, By: "root", Reason: "why", Path: "/elsewhere", Grace: time.Second})
		want := Loss{Token: 2, Path: "/b", Cause: Broken, By: "root", Reason: "why", Grace: time.Second}
		if loss := <-l.Lost(); loss != want {
			t.Errorf("loss %+v, want %+v", loss, want)
		}
		s.say(0, &wire.Lost{ID: 2, Cause: wire.Expired}) // a second time for the same hold: nonsense
		s.say(0, &wire.Lost{ID: 77, Cause: wire.Stopped})
		s.say(0, &wire.Lost{ID: 1, Cause: wire.Expired})
		if loss := <-l.Lost(); loss.Token != 1 || loss.Cause != Expired {
			t.Errorf("loss %+v", loss)
		}
		if loss, ok := <-l.Lost(); ok {
			t.Errorf("a third loss: %+v", loss)
		}
	})
}

func TestUnlockWithinTheGraceEndsTheHold(t *testing.T) {
	for _, answer := range []wire.Message{&wire.Released{IDs: []uint64{1}}, &wire.Released{}} {
		bubble(t, func(t *testing.T, c *Client, s *fake) {
			l := held(t, c, s, Request{Paths: []string{"/a"}, Grace: wire.MaxGrace}, 1)
			s.say(0, &wire.Lost{ID: 1, Cause: wire.Broken, Grace: wire.MaxGrace})
			<-l.Lost()
			done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
			id, m := expect[*wire.Unlock](s)
			if m.ID != 1 {
				t.Errorf("released %+v", m)
			}
			s.say(id, answer)
			if got := <-done; got.err != nil {
				t.Error("Unlock:", got.err)
			}
		})
	}
}

func TestLossThatOvertakesItsGrantIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}})
		id, _ := expect[*wire.Lock](s)
		s.say(0, &wire.Lost{ID: 1, Cause: wire.Broken})
		s.say(id, grants(1))
		l := (<-done).value
		if loss, ok := <-l.Lost(); !ok || loss.Cause != Broken {
			t.Errorf("loss %+v, %v", loss, ok)
		}
	})
}

func TestDeadConnectionLosesAttachedLocksOnly(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		attached := held(t, c, s, Request{Paths: []string{"/a"}}, 1)
		detached := held(t, c, s, Request{Paths: []string{"/b"}, Detached: true}, 2)
		s.conn.Close()
		loss, ok := <-attached.Lost()
		if !ok || loss.Cause != Disconnected || !errors.Is(loss, ErrUnreachable) {
			t.Errorf("attached: loss %v, %v; want Disconnected with ErrUnreachable", loss, ok)
		}
		if loss, ok := <-detached.Lost(); ok {
			t.Errorf("detached: %v", loss)
		}
		if err := attached.Unlock(t.Context()); !errors.Is(err, ErrUnreachable) {
			t.Errorf("Unlock = %v, want ErrUnreachable", err)
		}
	})
}

func TestCloseIsNoLoss(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 1)
		if err := c.Close(); err != nil {
			t.Error("Close:", err)
		}
		if loss, ok := <-l.Lost(); ok {
			t.Errorf("Lost gave %v", loss)
		}
		if err := l.Unlock(t.Context()); err != ErrClosed {
			t.Errorf("Unlock = %v, want ErrClosed", err)
		}
	})
}

func TestLockSharedByTwoHandlesEndsForBoth(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		one := held(t, c, s, Request{Paths: []string{"/a"}}, 1)
		two := held(t, c, s, Request{Paths: []string{"/a"}}, 1)
		done := start(func() (bool, error) { return c.UnlockID(t.Context(), 1) })
		id, _ := expect[*wire.Unlock](s)
		s.say(id, &wire.Released{IDs: []uint64{1}})
		if got := <-done; !got.value || got.err != nil {
			t.Errorf("UnlockID = %+v", got)
		}
		for _, l := range []*Lock{one, two} {
			if loss, ok := <-l.Lost(); ok {
				t.Errorf("Lost gave %v", loss)
			}
		}
	})
}

func TestNobodyNeedsToListenToLost(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		held(t, c, s, Request{Paths: []string{"/a", "/b"}}, 1, 2)
		for id := uint64(1); id <= 2; id++ {
			s.say(0, &wire.Lost{ID: id, Cause: wire.Expired})
		}
		done := start(func() (*Status, error) { return c.Status(t.Context()) })
		id, _ := expect[*wire.Status](s)
		s.say(id, &wire.StatusReply{})
		if got := <-done; got.err != nil {
			t.Error("Status:", got.err)
		}
		synctest.Wait()
	})
}
