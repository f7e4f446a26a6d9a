package main

import (
	"net"
	"slices"

	"locker/wire"
)

// How the fake lockerd dies and comes back. Its socket is not its own, as under systemd: connections queue meanwhile.

// die ends every connection, without a word; the sessions that have something stay.
func (f *fakeLockerd) die() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	for s := range f.sessions {
		if s.conn == nil {
			continue
		}
		conn := s.conn
		s.conn, s.watch = nil, 0
		conn.Close()
		if !slices.ContainsFunc(f.holds, func(h *fakeHold) bool { return h.session == s }) &&
			!slices.ContainsFunc(f.waiters, func(w *fakeWaiter) bool { return w.s == s }) {
			delete(f.sessions, s)
		}
	}
}

// revive serves those who have come meanwhile, and who will.
func (f *fakeLockerd) revive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = false
	for _, conn := range f.backlog {
		f.welcome(conn)
	}
	f.backlog = nil
}

// forget loses every session, and what it has.
func (f *fakeLockerd) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.sessions {
		s.end()
	}
}

// leave says that it stops, and does.
func (f *fakeLockerd) leave() {
	f.mu.Lock()
	for s := range f.sessions {
		s.say(0, &wire.Error{Code: wire.CodeShutdown, Text: "it stops for good"})
	}
	f.mu.Unlock()
	f.stop()
}

// knocked reports whether somebody waits for a dead lockerd.
func (f *fakeLockerd) knocked() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.backlog) > 0
}

// resumed reports whether every session has its client back.
func (f *fakeLockerd) resumed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.sessions {
		if s.conn == nil {
			return false
		}
	}
	return true
}

// resume gives the session to the connection of s. The caller holds mu.
func (f *fakeLockerd) resume(s *fakeSession, id uint32, m *wire.Resume) *fakeSession {
	for old := range f.sessions {
		if old.id != m.Session || old.conn != nil {
			continue
		}
		delete(f.sessions, s)
		old.conn, s.conn = s.conn, net.Conn(nil)
		back := &wire.Resumed{}
		for _, h := range f.holds {
			if h.session == old {
				back.IDs = append(back.IDs, h.id)
			}
		}
		slices.Sort(back.IDs)
		old.say(id, back)
		return old
	}
	s.say(id, &wire.Error{Code: wire.CodeLost})
	return s
}

// again answers a Lock that was sent before; false if it was not. The caller holds mu.
func (f *fakeLockerd) again(s *fakeSession, id uint32, m *wire.Lock) bool {
	for _, w := range f.waiters {
		if w.s == s && w.id == id {
			s.say(id, f.queued(w))
			return true
		}
	}
	g := &wire.Granted{}
	for _, path := range m.Paths {
		i := slices.IndexFunc(f.holds, func(h *fakeHold) bool { return h.path == path && h.asker == s && h.request == id })
		if i < 0 {
			return false
		}
		g.Grants = append(g.Grants, wire.Grant{ID: f.holds[i].id, Rests: wire.RestOFD | wire.RestFlock})
	}
	s.say(id, g)
	return true
}
