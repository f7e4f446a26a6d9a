package keeper

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Server is the keeper. Its fields are set before Serve, which is called once.
type Server struct {
	Warn   func(msg string, kv ...any) // told what a broker should not have done, and shortages; nil: nobody
	Synced func(brokerPID int32)       // called when a broker has been answered that all it sent is kept; nil: nobody

	kept     *entries
	closing  closer
	highest  uint64 // id with the top bit clear that was ever put
	complete bool
	leaving  leaving

	patience time.Duration // for a broker that does not read; 0: the default
}

const (
	minPause = 20 * time.Millisecond // before the next accept, after one that failed
	maxPause = time.Second

	defaultPatience = 10 * time.Second // for a broker to read the next message of an answer
	closePatience   = time.Second      // for close(2) of files on a file system that hangs
)

// Serve keeps what brokers send until ctx is done or the listener fails. Then it closes the listener and every copy.
//
// One broker at a time: the connection of the next is served only when the last one has been read to its end, because
// what the last one sent before it died still waits in its socket, and the next must see it in its list.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.kept = newEntries()
	defer whenDone(ctx, func() { l.Close() })()
	defer l.Close()
	defer s.close()
	s.leaving.begin(l, cancel)
	for pause := minPause; !s.mayLeave(l); {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded): // Leave woke us
			l.SetDeadline(time.Time{})
			continue
		case err == nil:
			err = s.serve(ctx, conn)
			if ctx.Err() != nil {
				return nil
			}
			if err == nil {
				pause = minPause
				continue
			}
		case !passes(err):
			return err
		default:
			s.warn("accept", "error", err, "pause", pause)
		}
		// Out of descriptors or memory, accept fails at once, again and again, and a broker that was sent away comes again:
		// without a pause that is a busy loop. accept(2).
		over := time.NewTimer(pause)
		select {
		case <-over.C:
		case <-ctx.Done():
		}
		over.Stop()
		pause = min(2*pause, maxPause)
	}
	return nil
}

// whenDone calls f when ctx is done. The function it gives ends that, and waits if it is under way.
func whenDone(ctx context.Context, f func()) (stop func()) {
	called := make(chan struct{})
	disarm := context.AfterFunc(ctx, func() {
		defer close(called)
		f()
	})
	return func() {
		if !disarm() {
			<-called
		}
	}
}

// passes reports whether accept(2) may succeed later.
func passes(err error) bool {
	for _, errno := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// forgetAll drops every entry.
func (s *Server) forgetAll() {
	for _, id := range s.kept.ids() {
		s.drop(id)
	}
	s.closing.start()
}

// close closes every copy, as far as close(2) returns.
func (s *Server) close() {
	if n := s.kept.len(); n > 0 && s.leaving.inVain() {
		s.warn("ended with copies that no broker has taken over: their locks are let go", "count", n)
	}
	s.forgetAll()
	if s.closing.settle(closePatience) {
		s.closing.work.Wait()
	}
}

// serve reads one connection to its end, and closes it. An error says that the next one should wait a little.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) error {
	defer conn.Close()
	peer, err := peerOf(conn)
	if err != nil {
		s.warn("ask the kernel who connected", "error", err)
		return err
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		s.warn("a stranger connected and was sent away", "uid", peer.Uid, "pid", peer.Pid)
		return nil
	}
	b, err := s.newLink(conn, peer.Pid)
	if err != nil {
		s.warn("prepare the connection", "error", err)
		return err
	}
	defer b.conn.close()
	conn.Close() // the link has its own descriptor
	Step("keeper.accepted")
	defer whenDone(ctx, b.conn.shut)()
	b.late = s.leaving.meet(b.conn)
	defer func() { s.leaving.part(b.last) }()
	defer s.closing.start()
	for !b.last {
		err := b.in.receive()
		if err == io.EOF || err != nil && ctx.Err() != nil {
			return b.ended
		}
		if err != nil {
			s.warn("read from the broker", "pid", b.pid, "error", err)
			return err
		}
		b.take()
	}
	return nil
}

// put keeps e, whose descriptors are the keeper's from here on; false: there is no room.
func (s *Server) put(e Entry) bool {
	if !s.hasRoom(e.ID) {
		s.closing.close(e.Lock, e.Holder)
		return false
	}
	s.drop(e.ID)
	s.kept.put(e)
	if e.ID < topBit {
		s.highest = max(s.highest, e.ID)
	}
	return true
}

func (s *Server) drop(id uint64) {
	if e, ok := s.kept.get(id); ok {
		s.closing.close(e.Lock, e.Holder)
		s.kept.remove(id)
	}
}

// room is how many entries there may be.
func (s *Server) room() int { return descriptorsForEntries() / maxRights }

// hasRoom reports whether there may be an entry id.
func (s *Server) hasRoom(id uint64) bool {
	if s.kept.len() >= s.room() && !s.kept.has(id) {
		return false
	}
	// Those that are dropped and not yet closed have descriptors as well. The broker need not know of them, unless they hang: so
	// that its next message finds descriptors free, they are waited for.
	n := s.closing.unclosed()
	return n <= reserve/2 || maxRights*(s.kept.len()+1)+n <= descriptorsForEntries() || s.closing.settle(closePatience)
}

func (s *Server) warn(msg string, kv ...any) {
	if s.Warn != nil {
		s.Warn(msg, kv...)
	}
}

// loses is the bug that the torture test must find.
func loses() bool { return Seeded("forgets") && rand.IntN(200) == 0 }
