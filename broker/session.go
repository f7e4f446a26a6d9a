package broker

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// session is one connection of one peer. Its goroutine reads frames and works on them one at a time, in order; only
// waiting claims outlive their turn, so many can be in flight.
type session struct {
	b       *Broker
	id      uint64
	conn    *net.UnixConn
	peer    authz.Peer
	acct    *account
	out     outbox
	hurried bool            // connected when too many had said nothing yet
	who     *who            // by the session's goroutine, before the first request that needs it
	version uint8           // of the protocol; 0 before the Hello. Written by the session's goroutine alone, before any request
	asked   bool            // something was asked for over it. Likewise
	resumed bool            // it goes on from a session of an earlier run. Likewise
	alive   context.Context // of the session's goroutine: ends when we close the connection, or its process has died. A field, since that is told from outside

	// Guarded by Broker.mu.
	requests map[uint32]*request // Lock requests without a final answer
	away     bool                // of an earlier run, and its client has not come back: there is no connection
	due      deadline            // then: until when it may
	killed   string              // not "": why the broker closed the connection
	die      context.CancelFunc  // ends alive
	dead     bool                // the peer's process has died
	ended    bool                // no request may enter any more
	greeted  bool                // written by the session's goroutine alone
}

// identify gives the peer's names, looked up once and only when something needs them.
func (s *session) identify() *who {
	if s.who == nil {
		s.who = describe(s.peer, s.b.rules.Load().policy)
	}
	return s.who
}

// resumes reports whether the client knows how to come back after a restart of lockerd.
func (s *session) resumes() bool { return s.version >= resumeVersion }

// resumeVersion is the first version of the protocol with Resume.
const resumeVersion = 2

// send encodes m and sends it without blocking.
func (s *session) send(request uint32, m wire.Message) {
	if s.conn == nil || s.b.handed.Load() {
		return // nobody is there to hear it, or nothing is to be said any more
	}
	frame, err := wire.Append(make([]byte, 0, 128), request, m)
	if err != nil {
		// Answers are made of bounded parts; what still does not fit is our mistake, and the client must not wait for ever.
		s.b.logger.Error("answer does not fit a frame", "error", err)
		frame, err = wire.Append(nil, request, &wire.Error{Code: wire.CodeInternal, Text: "the answer does not fit a frame"})
		if err != nil {
			panic("broker: a fixed answer does not encode: " + err.Error())
		}
	}
	s.out.send(frame)
}

// refuse sends an error that answers request.
func (s *session) refuse(request uint32, code wire.Code, path, text string) {
	s.send(request, &wire.Error{Code: code, Path: path, Text: text})
}

// serve reads and handles frames until the peer is gone or breaks the rules. The caller ends the session.
func (s *session) serve(ctx context.Context) {
	alive, die := context.WithCancel(ctx)
	defer die()
	s.b.mu.Lock()
	if s.alive, s.die = alive, die; s.dead || s.killed != "" {
		die()
	}
	s.b.mu.Unlock()
	patience := s.b.frames.hello
	if s.hurried {
		patience = s.b.frames.hurried
	}
	s.conn.SetReadDeadline(time.Now().Add(patience))
	r := frameReader{conn: s.conn, patience: s.b.frames.whole}
	for {
		body, err := r.next(s.isGreeted())
		if err != nil {
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				s.refuse(0, wire.CodeLimit, "", "a frame must arrive whole within 2 seconds")
			case errors.Is(err, wire.ErrFrameSize):
				s.refuse(0, wire.CodeLimit, "", "a frame is 6 to 65,536 bytes long")
			case errors.Is(err, io.ErrUnexpectedEOF): // it may have closed its half alone, and read on
				s.refuse(0, wire.CodeInvalid, "", "the connection ends inside a frame")
			case !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
				s.b.logger.Debug("connection ended", "uid", s.peer.UID, "pid", s.peer.PID, "error", err)
			}
			return
		}
		id, m, err := wire.Parse(body)
		if err != nil {
			s.refuse(id, wire.CodeOf(err), "", wire.Clip("malformed frame: "+err.Error(), wire.MaxText))
			return
		}
		if !s.isGreeted() {
			if !s.greet(id, m) {
				return
			}
			s.conn.SetReadDeadline(time.Time{})
			continue
		}
		if !s.handle(ctx, id, m) {
			return
		}
	}
}

func (s *session) isGreeted() bool { return s.greeted }

// greet answers the first frame, which must be a Hello with a version that we speak.
func (s *session) greet(id uint32, m wire.Message) bool {
	hello, ok := m.(*wire.Hello)
	if !ok {
		s.refuse(id, wire.CodeInvalid, "", "the first frame must be a Hello")
		return false
	}
	if hello.Min > wire.Version {
		s.refuse(id, wire.CodeVersion, "", "this lockerd speaks versions 1 to 4 of the protocol only")
		return false
	}
	s.version = min(hello.Max, wire.Version)
	s.greeted = true
	s.b.greeted(s)
	s.send(id, &wire.Welcome{
		Version: s.version, Server: s.b.version, Session: s.id,
		MaxFrame: wire.MaxFrame, MaxPaths: wire.MaxPaths, MaxPath: wire.MaxPath, MaxReason: wire.MaxReason, MaxTag: wire.MaxTag,
	})
	return true
}

// handle works on one request; false ends the session.
func (s *session) handle(ctx context.Context, id uint32, m wire.Message) bool {
	if id == 0 {
		s.refuse(0, wire.CodeInvalid, "", "request id 0 is for events")
		return false
	}
	b := s.b
	if m, ok := m.(*wire.Resume); ok {
		if !s.resumes() {
			s.refuse(id, wire.CodeInvalid, "", "this message is of version 2 of the protocol, and the connection speaks version 1")
			return false
		}
		b.resume(s, id, m)
		b.clearUntold(ctx, s)
		return true
	}
	s.asked = true
	switch m := m.(type) {
	case *wire.Lock:
		if s.version < m.Mode.Version() {
			s.refuse(id, wire.CodeInvalid, "", "this mode is of version 3 of the protocol, and the connection speaks an earlier one")
			return false
		}
		b.lock(ctx, s, id, m)
	case *wire.Unlock:
		b.unlock(ctx, s, id, m)
	case *wire.Cancel:
		b.cancel(ctx, s, id, m)
	case *wire.Where:
		b.where(s, id, m)
	case *wire.List:
		b.list(ctx, s, id, m)
	case *wire.Watch:
		b.watch(s, id)
	case *wire.Status:
		b.status(s, id)
	case *wire.Guard:
		if s.version < m.Type().Version() {
			s.refuse(id, wire.CodeInvalid, "", "this message is of version 4 of the protocol, and the connection speaks an earlier one")
			return false
		}
		b.guardStatus(s, id)
	case *wire.Break:
		b.breakLock(ctx, s, id, m)
	case *wire.Reload:
		b.reloadFor(ctx, s, id)
	case *wire.Rules:
		b.listRules(s, id)
	case *wire.Explain:
		b.explain(s, id, m)
	default:
		s.refuse(id, wire.CodeInvalid, "", "this message is not a request, or the Hello came twice")
		return false
	}
	return true
}

// end takes everything away that lives as long as the connection: waiting claims, attached holds, the watch.
func (s *session) end(ctx context.Context) {
	s.b.mu.Lock()
	evs, ending, first := s.beginEnd()
	s.b.mu.Unlock()
	if first {
		s.finishEnd(ctx, evs, ending)
	}
}

// beginEnd marks the session as ended, and all that it has; false when somebody else has, or nobody shall. The caller holds mu.
func (s *session) beginEnd() (evs []event, ending []*hold, first bool) {
	b := s.b
	if b.handed.Load() || s.ended { // the next broker's now
		return nil, nil, false
	}
	s.ended = true
	delete(b.sessions, s.id)
	delete(b.watchers, s)
	for _, r := range s.requests {
		evs = append(evs, b.stop(r, wire.CodeCanceled)...)
	}
	return evs, b.beginEnd(b.table.heldBy(owner{uid: s.peer.UID, session: s.id})), true
}

// finishEnd lets go of what beginEnd gave. The caller does not hold mu.
func (s *session) finishEnd(ctx context.Context, evs []event, ending []*hold) {
	b := s.b
	b.mu.Lock()
	cause, text := audit.EventRelease, "connection closed"
	if s.dead {
		cause, text = audit.EventDeath, "process died"
	}
	if s.killed != "" {
		text = s.killed
	}
	b.mu.Unlock()
	more, seq := b.finishEnd(ctx, ending, func(h *hold, r *audit.Record) {
		r.Event, r.Text = cause, text
	})
	b.run(ctx, append(evs, more...))
	b.commit(seq)
	if s.conn != nil {
		s.out.flush(context.Background()) // the connection is closed: nobody writes for long
	}
}

// kill closes the connection from outside its goroutine, which then ends the session.
func (s *session) kill(why string, dead bool) {
	s.b.mu.Lock()
	s.killed, s.dead = why, s.dead || dead
	if s.die != nil {
		s.die()
	}
	s.b.mu.Unlock()
	s.conn.Close()
}

// hangUp has the session end when it has worked on what it has read; what it answers still goes out.
func (s *session) hangUp(why string) {
	s.b.mu.Lock()
	s.killed = why
	s.b.mu.Unlock()
	s.conn.CloseRead()
}
