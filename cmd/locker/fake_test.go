package main

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"locker/wire"
)

// fakeLockerd speaks wire and locks nothing but names: enough of a lockerd to try every word of the command line on. A
// path that contains the word of a code ("denied", "quota") is refused with that code.
type fakeLockerd struct {
	t      testing.TB
	l      net.Listener
	work   sync.WaitGroup
	socket string

	mu       sync.Mutex // guards the fields below and every session's
	next     uint64     // hold
	met      uint64     // sessions
	holds    []*fakeHold
	waiters  []*fakeWaiter
	sessions map[*fakeSession]bool
	asked    []*wire.Lock
	dead     bool       // nobody accepts: see die
	well     bool       // nothing is wrong with its log
	backlog  []net.Conn // of a dead one
}

type fakeHold struct {
	id      uint64
	path    string
	session *fakeSession // of an attached hold; nil: detached, or somebody else's
	asker   *fakeSession // with which request
	request uint32
	bob     bool // somebody else's
	tag     string
	lock    *wire.Lock
	ending  bool
}

type fakeWaiter struct {
	s    *fakeSession
	id   uint32
	lock *wire.Lock
	late *time.Timer
}

type fakeSession struct {
	f     *fakeLockerd
	id    uint64
	conn  net.Conn // nil while it is away
	watch uint32
}

func startFake(t testing.TB, socket string) *fakeLockerd {
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLockerd{t: t, l: l, socket: socket, next: 16, sessions: map[*fakeSession]bool{}}
	f.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			if f.dead {
				f.backlog = append(f.backlog, conn)
			} else {
				f.welcome(conn)
			}
			f.mu.Unlock()
		}
	})
	return f
}

// welcome begins a session. The caller holds mu.
func (f *fakeLockerd) welcome(conn net.Conn) {
	f.met++
	s := &fakeSession{f: f, id: f.met, conn: conn}
	f.sessions[s] = true
	f.work.Go(func() { s.serve(conn) })
}

// stop closes the socket and every connection.
func (f *fakeLockerd) stop() {
	f.l.Close()
	f.mu.Lock()
	for s := range f.sessions {
		if s.conn != nil {
			s.conn.Close()
		}
	}
	for _, conn := range f.backlog {
		conn.Close()
	}
	f.mu.Unlock()
	f.work.Wait()
}

func (s *fakeSession) serve(conn net.Conn) {
	f := s.f
	for {
		body, err := wire.ReadFrame(conn, nil)
		if err != nil {
			break
		}
		id, m, err := wire.Parse(body)
		if err != nil {
			f.t.Errorf("fake lockerd: %v", err)
			break
		}
		f.mu.Lock()
		if r, ok := m.(*wire.Resume); ok {
			s = f.resume(s, id, r)
		} else if s.conn == conn {
			s.handle(id, m)
		}
		f.mu.Unlock()
	}
	conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.conn == conn { // else we have died, and it lives on
		s.end()
	}
}

// end takes away what the session has. The caller holds mu.
func (s *fakeSession) end() {
	f := s.f
	delete(f.sessions, s)
	f.waiters = slices.DeleteFunc(f.waiters, func(w *fakeWaiter) bool { return w.s == s })
	f.holds = slices.DeleteFunc(f.holds, func(h *fakeHold) bool { return h.session == s })
	f.move()
}

func (s *fakeSession) say(id uint32, m wire.Message) {
	frame, err := wire.Append(nil, id, m)
	if err != nil {
		s.f.t.Errorf("fake lockerd: %v", err)
	}
	if s.conn != nil {
		s.conn.Write(frame) // the client may be gone
	}
}

func (s *fakeSession) handle(id uint32, m wire.Message) {
	f := s.f
	switch m := m.(type) {
	case *wire.Hello:
		s.say(id, &wire.Welcome{Version: wire.Version, Server: "fake", Session: s.id})
	case *wire.Lock:
		f.asked = append(f.asked, m)
		f.lock(s, id, m)
	case *wire.Unlock:
		s.say(id, &wire.Released{IDs: f.unlock(s, m)})
	case *wire.Cancel:
		f.drop(s, m.Target, wire.CodeCanceled)
		s.say(id, &wire.Done{})
	case *wire.Where:
		for _, w := range f.waiters {
			if w.s == s && w.id == m.Target {
				s.say(id, f.queued(w))
				return
			}
		}
		s.say(id, &wire.Error{Code: wire.CodeInvalid})
	case *wire.List:
		s.say(id, &wire.Rows{Rows: f.rows(m.All)})
	case *wire.Watch:
		s.watch = id
	case *wire.Rules:
		s.say(id, &wire.Quiets{Quiets: []time.Duration{30 * time.Second, 0}})
		s.say(id, answers(m))
	case *wire.Break:
		s.say(id, &wire.Released{IDs: f.lose(func(h *fakeHold) bool { return h.path == m.Path || h.id == m.ID }, m.Reason)})
	default:
		if answer := answers(m); answer != nil {
			if s, ok := answer.(*wire.StatusReply); ok && f.well {
				s.AuditError = ""
			}
			if g, ok := answer.(*wire.GuardReply); ok && f.well {
				g.State, g.Programs = wire.GuardOff, nil
			}
			s.say(id, answer)
		}
	}
}

// answers gives fixed answers, with bytes in them that must not reach a terminal.
func answers(m wire.Message) wire.Message {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	switch m := m.(type) {
	case *wire.Status:
		return &wire.StatusReply{
			Server: "fake 1", BrokerPID: 41, Started: at, PolicyFile: "/etc/\x1b[31m\xff", PolicySHA256: "ab", PolicyLoaded: at,
			Rules: 2, Holds: 3, Waiters: 4, Connections: 5, AuditSegment: "0001", AuditSeq: 99, AuditError: "disk full",
			Limits: []wire.Limit{{Name: "holds", PerUID: 1024, All: 65536, Used: 3, UsedAll: 3}, {Name: "opens", Used: 1}},
		}
	case *wire.Guard:
		return &wire.GuardReply{State: wire.GuardOn, Programs: []string{"/usr/sbin/smbd", "/opt/\x1b[31m\xff"}}
	case *wire.Reload:
		return &wire.Reloaded{Lines: []string{"rule \"a\" added", "evil \x1b[31m"}}
	case *wire.Rules:
		return &wire.RulesReply{Rules: []wire.Allowance{{Paths: []string{"/srv/a", "/srv/\u202e"}, Can: []string{"lock", "list"}, MaxHold: 12 * time.Hour, Engines: []string{"ofd"}}, {Paths: []string{"/srv/b"}, Can: []string{"lock"}}}}
	case *wire.Explain:
		return &wire.Explained{Allowed: m.User == "alice", By: "rule \"own\" (/etc/locker.toml:3) for " + m.Action, Others: []string{"groups " + strings.Join(m.Groups, "+")}}
	}
	return nil
}

func (f *fakeLockerd) lock(s *fakeSession, id uint32, m *wire.Lock) {
	for _, path := range m.Paths {
		for code := wire.CodeBusy; code <= wire.CodeLost; code++ {
			if strings.Contains(path, "-"+code.String()+"-") {
				s.say(id, &wire.Error{Code: code, Path: path, Text: "refused by \"rule\""})
				return
			}
		}
	}
	if f.again(s, id, m) {
		return
	}
	w := &fakeWaiter{s: s, id: id, lock: m}
	f.waiters = append(f.waiters, w)
	f.move()
	if !slices.Contains(f.waiters, w) {
		return
	}
	switch {
	case m.Wait == wire.NonBlock:
		f.drop(s, id, wire.CodeBusy)
	case m.Wait == wire.Timed:
		w.late = time.AfterFunc(m.Timeout, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.drop(s, id, wire.CodeTimeout)
		})
		fallthrough
	default:
		s.say(id, f.queued(w))
	}
}

// drop refuses a waiting request.
func (f *fakeLockerd) drop(s *fakeSession, id uint32, code wire.Code) {
	for i, w := range f.waiters {
		if w.s == s && w.id == id {
			s.say(id, &wire.Error{Code: code, Path: w.lock.Paths[0], Text: "it was in use", Blockers: f.queued(w).Blockers})
			f.waiters = slices.Delete(f.waiters, i, i+1)
			f.changed()
			return
		}
	}
}

func (f *fakeLockerd) queued(w *fakeWaiter) *wire.Queued {
	q := &wire.Queued{Position: 1}
	for _, h := range f.holds {
		if slices.Contains(w.lock.Paths, h.path) {
			b := wire.Blocker{Kind: wire.Holder, Path: h.path, User: "bob", UID: 1002, PID: 4312, Command: "res\x1btic", Reason: h.lock.Reason}
			switch {
			case strings.Contains(h.path, "hidden"):
				b = wire.Blocker{Kind: wire.Holder, Hidden: true}
			case strings.Contains(h.path, "outside"):
				b = wire.Blocker{Kind: wire.Outside, Path: h.path, UID: 1003, PID: 2231, Command: "smbd", Reason: h.lock.Reason}
			}
			q.Blockers = append(q.Blockers, b)
		}
	}
	for _, ahead := range f.waiters {
		if ahead == w {
			break
		}
		q.Position++
	}
	return q
}

// move grants what can be granted.
func (f *fakeLockerd) move() {
	f.waiters = slices.DeleteFunc(f.waiters, func(w *fakeWaiter) bool { return f.grant(w) })
	f.changed()
}

func (f *fakeLockerd) grant(w *fakeWaiter) bool {
	g := &wire.Granted{}
	var fresh []*fakeHold
	for _, path := range w.lock.Paths {
		grant := wire.Grant{Rests: wire.RestOFD | wire.RestFlock}
		if w.lock.Mode == wire.Idle || strings.Contains(path, "known.sparsebundle") {
			grant.Rests |= wire.RestIdle
		}
		if strings.Contains(path, "guarded.sparsebundle") {
			grant.Rests |= wire.RestGuard
		}
		if i := slices.IndexFunc(f.holds, func(h *fakeHold) bool { return h.path == path }); i >= 0 {
			h := f.holds[i]
			if h.bob || h.ending || w.lock.Life == wire.Attached || h.session != nil || h.tag != w.lock.Tag {
				return false
			}
			grant.ID, grant.Already = h.id, true
		} else {
			f.next++
			h := &fakeHold{id: f.next, path: path, tag: w.lock.Tag, lock: w.lock, asker: w.s, request: w.id}
			if w.lock.Life == wire.Attached {
				h.session = w.s
			}
			if w.lock.TTL > 0 {
				grant.Expires = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			}
			fresh = append(fresh, h)
			grant.ID = h.id
		}
		g.Grants = append(g.Grants, grant)
	}
	f.holds = append(f.holds, fresh...)
	if w.late != nil {
		w.late.Stop()
	}
	w.s.say(w.id, g)
	return true
}

// heldMode is what a Lock's mode becomes.
func heldMode(m *wire.Lock) wire.Mode {
	if m.Mode == wire.Idle {
		return wire.Exclusive
	}
	return m.Mode
}

func (f *fakeLockerd) unlock(s *fakeSession, m *wire.Unlock) (ids []uint64) {
	if m.By == wire.ByPath {
		ids = make([]uint64, len(m.Paths))
	}
	f.holds = slices.DeleteFunc(f.holds, func(h *fakeHold) bool {
		i := slices.Index(m.Paths, h.path)
		switch {
		case h.bob || h.session != nil && h.session != s:
			return false
		case m.By == wire.ByPath && i >= 0 && h.tag == m.Tag:
			ids[i] = h.id
		case m.By == wire.ByID && h.id == m.ID, m.By == wire.ByAll && (m.AnyTag || m.Tag == h.tag):
			ids = append(ids, h.id)
		default:
			return false
		}
		return true
	})
	f.move()
	return ids
}

// lose breaks holds: attached ones end when their owner unlocks them or goes.
func (f *fakeLockerd) lose(which func(*fakeHold) bool, reason string) (ids []uint64) {
	f.holds = slices.DeleteFunc(f.holds, func(h *fakeHold) bool {
		if !which(h) {
			return false
		}
		ids = append(ids, h.id)
		if h.session != nil {
			h.ending = true
			h.session.say(0, &wire.Lost{ID: h.id, Cause: wire.Broken, By: "root", Reason: reason, Path: h.path, Grace: h.lock.Grace})
		}
		return h.session == nil
	})
	f.move()
	return ids
}

// rows gives all holds and waiters; bob's only with all.
func (f *fakeLockerd) rows(all bool) (rows []wire.Row) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, h := range f.holds {
		r := wire.Row{
			Kind: wire.RowHolder, ID: h.id, Dev: 1, Ino: uint64(i + 1), Path: h.path, Mode: heldMode(h.lock), Rests: wire.RestOFD | wire.RestFlock,
			Life: h.lock.Life, UID: 1001, User: "alice", PID: 77, Command: "locker", Tag: h.tag, Reason: h.lock.Reason, Since: at, Mine: !h.bob, Ending: h.ending,
		}
		if h.bob {
			r.UID, r.User, r.Command = 1002, "", "x\x1b[31m\u202e"
		}
		if all || !h.bob {
			rows = append(rows, r)
		}
	}
	for i, w := range f.waiters {
		rows = append(rows, wire.Row{
			Kind: wire.RowWaiter, Dev: 1, Ino: 1, Path: w.lock.Paths[0], Mode: heldMode(w.lock), Life: w.lock.Life,
			UID: 1001, User: "alice", PID: 78, Command: "locker", Since: at, Position: uint32(i + 1), Mine: true,
		})
	}
	return rows
}

func (f *fakeLockerd) changed() {
	for s := range f.sessions {
		if s.watch != 0 {
			s.say(s.watch, &wire.Changed{})
		}
	}
}

// bobHolds gives the lock to somebody else.
func (f *fakeLockerd) bobHolds(path, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	f.holds = append(f.holds, &fakeHold{id: f.next, path: path, bob: true, lock: &wire.Lock{Mode: wire.Exclusive, Life: wire.Detached, Reason: reason}})
	f.changed()
}

// bobFrees takes it back.
func (f *fakeLockerd) bobFrees(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds = slices.DeleteFunc(f.holds, func(h *fakeHold) bool { return h.bob && h.path == path })
	f.move()
}

// loses breaks whatever lock is held on path.
func (f *fakeLockerd) loses(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lose(func(h *fakeHold) bool { return h.path == path }, "maintenance")
}

// state gives the paths that are held, and those that are waited for.
func (f *fakeLockerd) state() (held, waited []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.holds {
		held = append(held, h.path)
	}
	for _, w := range f.waiters {
		waited = append(waited, w.lock.Paths...)
	}
	return held, waited
}
