package keeper

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// leaving is how a keeper ends without losing anything: another shall take its place.
type leaving struct {
	mu     sync.Mutex // guards the fields below
	asked  bool
	within time.Duration
	wake   func() // ends an accept that waits; nil: Serve was not called yet
	cancel context.CancelFunc
	broker *lazyConn // that is being served; nil: none
	told   bool      // a broker that lives has everything
}

// Leave has Serve end as soon as all copies are elsewhere, and at the latest after so long. It may be called at any time, and from any
// goroutine.
//
// What is elsewhere is known of one broker only: one that connects after Leave, and has been answered the Sync by which it asks whether
// all that it has taken over is kept. Of any other it may be that it has just been answered its last Sync, and ends, relying on
// us. So the connection that there is is ended first: a broker that lives comes again, and of one that ends, the next comes.
func (s *Server) Leave(within time.Duration) {
	l := &s.leaving
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked {
		return
	}
	l.asked, l.within = true, within
	if l.broker != nil {
		l.broker.shut()
	}
	if l.wake != nil {
		l.wake()
		time.AfterFunc(within, l.cancel)
	}
}

func (l *leaving) begin(accepting *net.UnixListener, cancel context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
	l.wake = func() { accepting.SetDeadline(time.Unix(1, 0)) }
	if l.asked {
		time.AfterFunc(l.within, cancel)
	}
}

// meet notes which broker is served. late: it came after Leave.
func (l *leaving) meet(c *lazyConn) (late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broker = c
	return l.asked
}

// part notes that none is served any more, and whether the last one lives and has everything.
func (l *leaving) part(told bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broker, l.told = nil, told
}

// inVain reports whether Leave was called, and no broker has everything.
func (l *leaving) inVain() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked && !l.told
}

// mayLeave reports whether nothing is lost if Serve ends now, and it shall. A connection that was not accepted yet may hold locks.
func (s *Server) mayLeave(l *net.UnixListener) bool {
	s.leaving.mu.Lock()
	asked, told := s.leaving.asked, s.leaving.told
	s.leaving.mu.Unlock()
	return asked && (told || s.kept.len() == 0 && !someoneWaits(l))
}

// someoneWaits reports whether accept(2) would not wait.
func someoneWaits(l *net.UnixListener) (ready bool) {
	if raw, err := l.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { ready, _ = await(int(fd), unix.POLLIN, 0) })
	}
	return ready
}
