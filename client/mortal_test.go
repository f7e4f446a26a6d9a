package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"

	"locker/wire"
)

// mortal is a lockerd that dies after so many bytes, read or written, and is back at once. What it has granted and who
// waits outlives it, as its keeper's memory would; what it was about to say does not.
type mortal struct {
	t    *testing.T
	work sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	life     int        // bytes until its death; less than 0: it is immortal
	span     int        // life of its successor
	deaths   int
	conns    map[net.Conn]bool
	sessions map[uint64]*mortalSession
	last     uint64 // session or hold
	holds    []*mortalHold
	waiters  []*mortalHold // in the order of their coming
	grants   map[string]int
}

type mortalSession struct {
	id    uint64
	conn  *mortalConn // nil while it is away
	watch uint32
}

// mortalHold is a Lock, waiting or granted: one for all its paths.
type mortalHold struct {
	ids      []uint64
	paths    []string
	session  uint64 // who asked
	request  uint32
	detached bool
}

// mortalConn counts what passes.
type mortalConn struct {
	m *mortal
	net.Conn
}

func newMortal(t *testing.T, life, span int) *mortal {
	return &mortal{
		t: t, life: life, span: span, last: 100, conns: map[net.Conn]bool{}, sessions: map[uint64]*mortalSession{}, grants: map[string]int{},
	}
}

// open is for a dialer. The very first attempt after a death finds nobody.
func (m *mortal) open(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == 0 {
		m.life = m.span
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, syscall.ECONNREFUSED)
	}
	ours, theirs := net.Pipe()
	m.conns[theirs] = true
	m.work.Go(func() { m.serve(&mortalConn{m, theirs}) })
	return ours, nil
}

// spend takes up to n bytes of the rest of its life; with the last it dies.
func (m *mortal) spend(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life < 0 {
		return n
	}
	n = min(n, m.life)
	m.life -= n
	return n
}

func (m *mortal) dieIfDue() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == 0 && len(m.conns) > 0 {
		m.deaths++
		for conn := range m.conns {
			conn.Close()
		}
		clear(m.conns)
		for _, s := range m.sessions {
			s.conn, s.watch = nil, 0
		}
	}
}

func (c *mortalConn) Read(p []byte) (int, error) {
	defer c.m.dieIfDue()
	if len(p) > 1 {
		p = p[:1] // so that it can die between any two
	}
	n, err := c.Conn.Read(p)
	if c.m.spend(n) < n {
		return 0, io.ErrClosedPipe
	}
	return n, err
}

func (c *mortalConn) Write(p []byte) (int, error) {
	defer c.m.dieIfDue()
	n := c.m.spend(len(p))
	n, err := c.Conn.Write(p[:n])
	if err == nil && n < len(p) {
		err = io.ErrClosedPipe
	}
	return n, err
}

// say writes a frame. It never holds mu: the client may be writing to us.
func (c *mortalConn) say(id uint32, m wire.Message) {
	frame, err := wire.Append(nil, id, m)
	if err != nil {
		c.m.t.Errorf("mortal lockerd: %v", err)
	}
	c.Write(frame)
}

func (m *mortal) serve(c *mortalConn) {
	s := &mortalSession{}
	for {
		body, err := wire.ReadFrame(c, nil)
		if err != nil {
			m.left(c, s)
			return
		}
		id, msg, err := wire.Parse(body)
		if err != nil {
			m.t.Errorf("mortal lockerd: %v", err)
		}
		m.mu.Lock()
		var out []answer
		if m.conns[c.Conn] { // else it is dead already
			s, out = m.handle(c, s, id, msg)
		}
		m.mu.Unlock()
		for _, a := range out {
			a.to.say(a.id, a.m)
		}
	}
}

// left: the client closed the connection, which ends its session; or we have died, which does not.
func (m *mortal) left(c *mortalConn, s *mortalSession) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.conns[c.Conn] {
		return
	}
	delete(m.conns, c.Conn)
	delete(m.sessions, s.id)
	of := func(h *mortalHold) bool { return h.session == s.id && !h.detached }
	m.holds = slices.DeleteFunc(m.holds, of)
	m.waiters = slices.DeleteFunc(m.waiters, of)
}
