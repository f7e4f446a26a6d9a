package client

import (
	"context"
	"errors"
	"locker/wire"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestAServerThatStaysAwayLosesTheLocks(t *testing.T) {
	for name, mute := range map[string]bool{"nobody listens": false, "nobody accepts": true} {
		hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
			l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
			detached := held(t, c, s, Request{Paths: []string{"/b"}, Detached: true}, 5)
			waits := startLock(t.Context(), c, Request{Paths: []string{"/c"}})
			expect[*wire.Lock](s)
			h.deaf.Store(!mute)
			s.conn.Close()
			var loss Loss
			if d := asleep(func() { loss = <-l.Lost() }); d != patience {
				t.Errorf("%s: lost after %v, want %v", name, d, patience)
			}
			if loss.Cause != Disconnected || !errors.Is(loss, ErrUnreachable) {
				t.Errorf("%s: loss %v; want Disconnected with ErrUnreachable", name, loss)
			}
			if _, ok := <-detached.Lost(); ok {
				t.Errorf("%s: the detached lock is said to be lost", name)
			}
			if err := (<-waits).err; !errors.Is(err, ErrUnreachable) || err.Error() != "lockerd cannot be reached: it closed the connection" {
				t.Errorf("%s: Lock = %v", name, err)
			}
			if _, err := c.Status(t.Context()); !errors.Is(err, ErrUnreachable) {
				t.Errorf("%s: Status = %v, want ErrUnreachable", name, err)
			}
			if n := h.attempts.Load(); n > 350 {
				t.Errorf("%s: %d attempts to connect", name, n)
			}
		})
	}
}

func TestWhatIsSaidOnPurposeEndsTheClient(t *testing.T) {
	for name, say := range map[string]func(s *fake, status uint32){
		"error about the connection": func(s *fake, status uint32) { s.say(0, &wire.Error{Code: wire.CodeLimit}) },
		"shutdown of the connection": func(s *fake, status uint32) { s.say(0, &wire.Error{Code: wire.CodeShutdown}) },
		"shutdown as an answer":      func(s *fake, status uint32) { s.say(status, &wire.Error{Code: wire.CodeShutdown}) },
		"lost, it is stopping":       func(s *fake, status uint32) { s.say(0, &wire.Lost{ID: 4, Cause: wire.Stopped}) },
	} {
		hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
			l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
			done := start(func() (*Status, error) { return c.Status(t.Context()) })
			id, _ := expect[*wire.Status](s)
			say(s, id)
			s.conn.Close()
			if got := <-done; got.err == nil {
				t.Errorf("%s: Status = %+v, want an error", name, got.value)
			}
			if loss, ok := <-l.Lost(); !ok {
				t.Errorf("%s: loss %v, %v", name, loss, ok)
			}
			<-c.done
			if n := h.attempts.Load(); n != 1 {
				t.Errorf("%s: %d connections, want 1", name, n)
			}
		})
	}
}

func TestNonsenseEndsTheClientForGood(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		s.conn.Write([]byte{0, 0, 0, 6, 9, 9, 0, 0, 0, 0})
		<-c.done
		if n := h.attempts.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

func TestNonsenseEndsAWriteThatIsNotRead(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		done := start(func() (*Status, error) { return c.Status(t.Context()) })
		synctest.Wait() // it writes
		s.conn.Write([]byte{0, 0, 0, 0})
		if got := <-done; !errors.Is(got.err, ErrUnreachable) {
			t.Errorf("Status = %v, want ErrUnreachable", got.err)
		}
	})
}

func TestASessionOfVersionOneEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, came: make(chan net.Conn)}
		dialed := start(func() (*Client, error) { return Dial(t.Context(), "host", at(h.open)) })
		s := h.accept()
		s.welcomeAs(1, firstSession)
		c := (<-dialed).value
		defer c.Close()
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		s.conn.Close()
		if loss := <-l.Lost(); loss.Cause != Disconnected || !errors.Is(loss, ErrUnreachable) {
			t.Errorf("loss %v", loss)
		}
		if n := h.attempts.Load(); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
	})
}

func TestAServerThatComesBackWithVersionOneHasNoSessionToResume(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		s.conn.Close()
		s = h.accept()
		s.welcomeAs(1, 8)
		if loss := <-l.Lost(); loss.Cause != Disconnected {
			t.Errorf("loss %v", loss)
		}
		s.works(c)
		s.conn.Close()
		<-c.done
	})
}

func TestCloseEndsAReconnect(t *testing.T) {
	for name, until := range map[string]func(h *host, s *fake){
		"nobody listens":  func(h *host, s *fake) { h.deaf.Store(true); s.conn.Close(); <-time.After(time.Second) },
		"nobody accepts":  func(h *host, s *fake) { s.conn.Close() },
		"no Welcome":      func(h *host, s *fake) { s.conn.Close(); h.accept() },
		"half a Welcome":  func(h *host, s *fake) { s.conn.Close(); s = h.accept(); s.next(); s.conn.Write([]byte{0, 0}) },
		"Resume unheard":  func(h *host, s *fake) { h.revive(s) },
		"no Resumed":      func(h *host, s *fake) { expect[*wire.Resume](h.revive(s)) },
		"nothing is read": func(h *host, s *fake) { h.revive(s).resumes(firstSession, 4) },
	} {
		hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
			l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
			done := start(func() (*Status, error) { return c.Status(t.Context()) })
			expect[*wire.Status](s)
			until(h, s)
			synctest.Wait()
			if d := asleep(func() {
				if err := c.Close(); err != nil {
					t.Errorf("%s: Close = %v", name, err)
				}
			}); d != 0 {
				t.Errorf("%s: Close took %v", name, d)
			}
			if got := <-done; got.err != ErrClosed {
				t.Errorf("%s: Status = %v, want ErrClosed", name, got.err)
			}
			if loss, ok := <-l.Lost(); ok {
				t.Errorf("%s: Lost gave %v", name, loss)
			}
			if err := l.Unlock(context.Background()); err != ErrClosed {
				t.Errorf("%s: Unlock = %v, want ErrClosed", name, err)
			}
		})
	}
}
