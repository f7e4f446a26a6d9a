package client

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

// fake is the other end of a Client's connection: the test reads requests and writes answers by hand.
type fake struct {
	t    *testing.T
	conn net.Conn
}

// bubble runs law with a Client and the lockerd it talks to, in a synctest bubble: its clock is virtual, and it fails
// if a goroutine of the client is left at the end.
func bubble(t *testing.T, law func(t *testing.T, c *Client, s *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &fake{t, theirs}
		greeted := make(chan struct{})
		go func() {
			defer close(greeted)
			s.welcome()
		}()
		c, err := New(t.Context(), ours)
		if err != nil {
			t.Fatal("New:", err)
		}
		<-greeted
		defer theirs.Close()
		defer c.Close()
		law(t, c, s)
	})
}

func (s *fake) welcome() { s.welcomeAs(wire.Version, firstSession) }

// firstSession is the number of the session that a bubble's Client begins with.
const firstSession = 7

func (s *fake) welcomeAs(version uint8, session uint64) {
	id, m := s.next()
	if _, ok := m.(*wire.Hello); !ok {
		s.t.Errorf("first frame is %T, want *wire.Hello", m)
	}
	s.say(id, &wire.Welcome{Version: version, Server: "fake", Session: session})
}

// next reads one request.
func (s *fake) next() (uint32, wire.Message) {
	body, err := wire.ReadFrame(s.conn, nil)
	if err != nil {
		s.t.Errorf("fake lockerd: read: %v", err)
		return 0, nil
	}
	id, m, err := wire.Parse(body)
	if err != nil {
		s.t.Errorf("fake lockerd: parse: %v", err)
	}
	return id, m
}

// say writes one frame.
func (s *fake) say(id uint32, m wire.Message) {
	frame, err := wire.Append(nil, id, m)
	if err != nil {
		s.t.Errorf("fake lockerd: append: %v", err)
		return
	}
	if _, err := s.conn.Write(frame); err != nil {
		s.t.Errorf("fake lockerd: write: %v", err)
	}
}

// expect reads one request of type M.
func expect[M wire.Message](s *fake) (uint32, M) {
	s.t.Helper()
	id, m := s.next()
	want, ok := m.(M)
	if !ok {
		s.t.Fatalf("fake lockerd got %#v, want a %T", m, want)
	}
	return id, want
}

// silent fails if the client has anything more to say.
func (s *fake) silent() {
	s.t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(time.Hour)) // virtual
	var b [1]byte
	if n, err := s.conn.Read(b[:]); n != 0 {
		s.t.Errorf("the client says more than it should: byte %#x", b[0])
	} else if err != io.EOF && !os.IsTimeout(err) {
		s.t.Errorf("read: %v", err)
	}
}

// result is what a request gives.
type result[T any] struct {
	value T
	err   error
}

// start runs f beside the test.
func start[T any](f func() (T, error)) <-chan result[T] {
	c := make(chan result[T], 1)
	go func() {
		v, err := f()
		c <- result[T]{v, err}
	}()
	return c
}

func startLock(ctx context.Context, c *Client, r Request) <-chan result[*Lock] {
	return start(func() (*Lock, error) { return c.Lock(ctx, r) })
}

// grants makes an answer with these ids.
func grants(ids ...uint64) *wire.Granted {
	g := &wire.Granted{}
	for _, id := range ids {
		g.Grants = append(g.Grants, wire.Grant{ID: id, Rests: wire.RestOFD | wire.RestFlock})
	}
	return g
}

// held gives a Lock on paths with these ids.
func held(t *testing.T, c *Client, s *fake, r Request, ids ...uint64) *Lock {
	t.Helper()
	done := startLock(t.Context(), c, r)
	id, _ := expect[*wire.Lock](s)
	s.say(id, grants(ids...))
	got := <-done
	if got.err != nil {
		t.Fatal("Lock:", got.err)
	}
	return got.value
}
