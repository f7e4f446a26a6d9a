package client

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

// host is where a lockerd can be reached that dies and comes back: the other end of a dialer.
type host struct {
	t        *testing.T
	came     chan net.Conn // what connects
	deaf     atomic.Bool   // nobody listens
	attempts atomic.Int32  // to connect
}

func (h *host) open(ctx context.Context) (net.Conn, error) {
	h.attempts.Add(1)
	if h.deaf.Load() {
		return nil, fmt.Errorf("%w at host: %w", ErrUnreachable, syscall.ECONNREFUSED)
	}
	ours, theirs := net.Pipe()
	select {
	case h.came <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w at host: %w", ErrUnreachable, ctx.Err())
	}
}

// hosted runs law with a Client that can connect again, and the first lockerd, in a synctest bubble: its clock is virtual,
// and it fails if a goroutine of the client is left at the end.
func hosted(t *testing.T, law func(t *testing.T, h *host, c *Client, s *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, came: make(chan net.Conn)}
		dialed := start(func() (*Client, error) { return Dial(t.Context(), "host", at(h.open)) })
		s := h.accept()
		s.welcome()
		got := <-dialed
		if got.err != nil {
			t.Fatal("Dial:", got.err)
		}
		defer got.value.Close()
		law(t, h, got.value, s)
	})
}

// at has Dial open its connections in another way.
func at(open func(context.Context) (net.Conn, error)) Option {
	return func(o *options) { o.open = open }
}

// accept gives the other end of the next connection.
func (h *host) accept() *fake {
	conn := <-h.came
	h.t.Cleanup(func() { conn.Close() })
	return &fake{h.t, conn}
}

// revive is a new lockerd in the place of s, which dies: it greets the client that comes back, as another session.
func (h *host) revive(s *fake) *fake {
	s.conn.Close()
	next := h.accept()
	next.welcomeAs(wire.Version, firstSession+1)
	return next
}

// resumes expects a Resume of that session, and grants it.
func (s *fake) resumes(session uint64, ids ...uint64) {
	s.t.Helper()
	id, m := expect[*wire.Resume](s)
	if m.Session != session {
		s.t.Errorf("the client resumes session %d, want %d", m.Session, session)
	}
	s.say(id, &wire.Resumed{IDs: ids})
}

// forgot expects a Resume, and knows of no such session.
func (s *fake) forgot() {
	s.t.Helper()
	id, _ := expect[*wire.Resume](s)
	s.say(id, &wire.Error{Code: wire.CodeLost})
}

// works fails unless the client's connection does.
func (s *fake) works(c *Client) {
	s.t.Helper()
	done := start(func() (*Status, error) { return c.Status(s.t.Context()) })
	id, _ := expect[*wire.Status](s)
	s.say(id, &wire.StatusReply{})
	if got := <-done; got.err != nil {
		s.t.Error("Status:", got.err)
	}
}

// frees expects an Unlock by id and answers it.
func (s *fake) frees(hold uint64) {
	s.t.Helper()
	id, m := expect[*wire.Unlock](s)
	if m.By != wire.ByID || m.ID != hold {
		s.t.Errorf("the client releases %+v, want id %d", m, hold)
	}
	s.say(id, &wire.Released{IDs: []uint64{hold}})
}

// keeps fails if the lock has had a Loss, or can have none any more.
func keeps(t *testing.T, l *Lock) {
	t.Helper()
	synctest.Wait()
	select {
	case loss, ok := <-l.Lost():
		t.Errorf("Lost gave %v, %v; want nothing", loss, ok)
	default:
	}
}

// asleep gives how long f takes, by the virtual clock.
func asleep(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
