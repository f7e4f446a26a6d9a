package guard

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Server is the guard. Its fields are set before Serve, which is called once.
type Server struct {
	// BrokerUID may connect, beside root and our own uid; 0: nobody else.
	BrokerUID uint32
	Warn      func(msg string, kv ...any) // told what a broker should not have done, and shortages; nil: nobody

	// For tests; zero is what a guard needs.
	patience time.Duration // for an event to be answered; 0: the default
	interval time.Duration // between looks at that; 0: a tenth of the patience
	spared   bool          // this process does not die when it hangs: no deadman, no kill
	judging  func()        // called before an event is judged, by the reader
	watching func()        // called at each look, by the session
}

const (
	defaultPatience = time.Second
	acceptPause     = 100 * time.Millisecond // after an accept that failed, since the next would at once
	unknownUID      = 65534                  // what the kernel says of a uid that our user namespace does not have. user_namespaces(7)
)

// Serve guards what brokers ask for until ctx is done or the listener fails, and closes the listener. One broker at a time; the
// next waits in the backlog. With a broker's connection goes all that it had guarded.
//
// This process must not be one that others need: when it hangs while something is guarded, it dies of SIGKILL; see doc.go.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer whenDone(ctx, func() { l.Close() })()
	defer l.Close()
	if s.patience == 0 {
		s.patience = defaultPatience
	}
	if s.interval == 0 {
		s.interval = s.patience / looks
	}
	var dead *deadman
	if !s.spared {
		var err error
		if dead, err = newDeadman(s.patience); err != nil {
			return err // without it a hang would be for ever
		}
		defer dead.close()
	}
	for {
		conn, err := l.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case err == nil:
			s.serve(ctx, conn, dead)
		case !passes(err):
			return err
		default:
			s.warn("accept", "error", err)
			over := time.NewTimer(acceptPause)
			select {
			case <-over.C:
			case <-ctx.Done():
			}
			over.Stop()
		}
	}
}

// serve serves one connection to its end, and closes it.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn, dead *deadman) {
	defer conn.Close()
	peer, err := peerOf(conn)
	if err != nil {
		s.warn("ask the kernel who connected", "error", err)
		return
	}
	if !s.mayConnect(peer) {
		s.warn("a stranger connected and was sent away", "uid", peer.Uid, "pid", peer.Pid)
		return
	}
	in, err := newReceiver(conn)
	if err != nil {
		s.warn("prepare the connection", "error", err)
		return
	}
	b := &session{s: s, conn: conn, raw: in.raw, pid: peer.Pid, dead: dead, held: newHeld(), refused: newRefusals(), reports: make(chan seen, maxReports)}
	b.run(ctx, in)
}

func (s *Server) mayConnect(peer *unix.Ucred) bool {
	if peer.Pid <= 0 || peer.Uid == unknownUID { // another namespace: whoever it is, we cannot know
		return false
	}
	return peer.Uid == 0 || int(peer.Uid) == os.Geteuid() || peer.Uid == s.BrokerUID
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

func (s *Server) warn(msg string, kv ...any) {
	if s.Warn != nil {
		s.Warn(msg, kv...)
	}
}
