package broker

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// acceptAll accepts until the listener is closed.
func (b *Broker) acceptAll(ctx, work context.Context, l *net.UnixListener, sessions *sync.WaitGroup) error {
	pause := minAcceptPause
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if !isShortage(err) && !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, unix.EINTR) {
				return err
			}
			// Out of descriptors or memory the connection stays queued and accept fails at once, again and again:
			// without a pause that is a busy loop. accept(2).
			b.logger.Error("accept", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			pause = min(2*pause, maxAcceptPause)
			continue
		}
		pause = minAcceptPause
		if s := b.meet(conn); s != nil {
			sessions.Go(func() {
				s.serve(work)
				b.part(work, s)
			})
		}
	}
}

const (
	minAcceptPause = 20 * time.Millisecond
	maxAcceptPause = time.Second
)

// meet asks the kernel who has connected and admits the peer or closes the connection.
func (b *Broker) meet(conn *net.UnixConn) *session {
	peer, err := b.peerOf(conn)
	if err != nil {
		code, text := wire.CodeDenied, "the kernel does not say who you are: "+err.Error()
		if isShortage(err) {
			code, text = wire.CodeUnavailable, "lockerd is short of file descriptors"
		}
		b.refuseConnection(conn, &who{peer: authz.Peer{PidFD: -1}}, code, text)
		return nil
	}
	w := &who{peer: peer}
	regime := b.rules.Load()
	if !regime.policy.Connect(&peer) {
		b.refuseConnection(conn, w, wire.CodeDenied, "lockerd has no policy file, so it serves root and the user who runs it alone")
		return nil
	}
	s := &session{b: b, conn: conn, peer: peer, requests: map[uint32]*request{}}
	l := regime.policy.Limits
	b.mu.Lock()
	text := b.roomFor(peer.UID, l)
	if text == "" {
		a := b.accounts[peer.UID]
		if a == nil {
			a = newAccount(peer.UID, l)
			b.accounts[peer.UID] = a
		}
		a.connections++
		a.parted.Store(false)
		s.hurried = a.early >= l.ConnectionsEarly || b.early >= l.ConnectionsEarlyAll
		a.early++
		b.early++
		b.connections++
		s.acct, s.id = a, b.newSessionID()
		b.sessions[s.id] = s
	}
	b.mu.Unlock()
	if text == "" {
		err = s.out.init(conn, &s.acct.unsent, func() int64 { return b.limits().UnsentAll }, b.times.write)
		if err == nil {
			err = b.deaths.add(peer.PidFD, s.id)
		}
		if err == nil {
			return s
		}
		b.part(context.Background(), s)
		return nil
	}
	b.refuseConnection(conn, w, wire.CodeLimit, text)
	return nil
}

// roomFor says why uid may not connect, "" if it may. The caller holds mu.
func (b *Broker) roomFor(uid uint32, l authz.Limits) string {
	if b.draining {
		return "lockerd is stopping"
	}
	all := l.ConnectionsAll
	if uid == 0 {
		all += rootConnections
	}
	a := b.accounts[uid]
	switch {
	case a != nil && a.connections >= l.Connections && uid != 0:
		return "you have as many connections as you may"
	case b.connections >= all:
		return "lockerd has as many connections as it may"
	case !b.mayUse(uid, 2):
		return "lockerd is short of file descriptors"
	}
	return ""
}

// refuseConnection says why in an error frame, records it and closes.
func (b *Broker) refuseConnection(conn *net.UnixConn, w *who, code wire.Code, text string) {
	if frame, err := wire.Append(nil, 0, &wire.Error{Code: code, Text: text}); err == nil {
		// A fresh socket's buffer takes one frame; a peer that has seen to it that it does not gets no explanation. Not by a deadline, which
		// can be over before anything is written where others keep us off the processors.
		if raw, err := conn.SyscallConn(); err == nil {
			raw.Write(func(fd uintptr) bool {
				unix.Write(int(fd), frame) // the socket is non-blocking
				return true
			})
		}
	}
	conn.Close()
	if w.peer.Known() {
		w.user = b.rules.Load().policy.Name(w.peer.UID)
		b.deaths.remove(w.peer.PidFD)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.denials.allow(w, b.boot()) {
		rec := audit.Record{Event: audit.EventConnectRefused, Code: code.String(), Text: text}
		w.sign(&rec)
		b.append(&rec)
	} else {
		b.poke()
	}
}

// greeted notes that a session's first frame has come.
func (b *Broker) greeted(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.acct.early--
	b.early--
	s.greeted = true
}

// part ends a session and gives back all that it used.
func (b *Broker) part(ctx context.Context, s *session) {
	s.conn.Close()
	s.end(ctx)
	b.deaths.remove(s.peer.PidFD) // only now: until its holds are marked, they may be sent to a new keeper with it
	b.mu.Lock()
	defer b.mu.Unlock()
	if !s.greeted {
		s.acct.early--
		b.early--
	}
	b.connections--
	s.acct.connections--
	b.forgetIdle(s.acct)
}

func peerOf(conn *net.UnixConn) (authz.Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return authz.Peer{}, err
	}
	var peer authz.Peer
	var perr error
	if err := raw.Control(func(fd uintptr) { peer, perr = authz.PeerOf(int(fd)) }); err != nil {
		return authz.Peer{}, err
	}
	return peer, perr
}

// died ends the session of a process that has died. A child may have inherited the socket, so there need not be an EOF.
func (b *Broker) died(ctx context.Context, id uint64) {
	b.mu.Lock()
	s := b.sessions[id]
	away := s != nil && s.away
	if away {
		s.dead = true
	}
	b.mu.Unlock()
	switch {
	case s == nil:
	case away:
		b.endAway(ctx, s, "")
	default:
		s.kill("", true)
	}
}
