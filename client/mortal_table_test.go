package client

import (
	"locker/wire"
	"maps"
	"slices"
)

// answer is a frame to be written when mu is free.
type answer struct {
	to *mortalConn
	id uint32
	m  wire.Message
}

// handle works on one request. The caller holds mu.
func (m *mortal) handle(c *mortalConn, s *mortalSession, id uint32, msg wire.Message) (*mortalSession, []answer) {
	say := func(a ...wire.Message) (out []answer) {
		for _, a := range a {
			out = append(out, answer{c, id, a})
		}
		return out
	}
	switch msg := msg.(type) {
	case *wire.Hello:
		m.last++
		s = &mortalSession{id: m.last, conn: c}
		m.sessions[s.id] = s
		return s, say(&wire.Welcome{Version: 2, Session: s.id})
	case *wire.Resume:
		old := m.sessions[msg.Session]
		if old == nil || old.conn != nil {
			m.t.Errorf("mortal lockerd: resume of session %d, which it never had or is not away", msg.Session)
			return s, say(&wire.Error{Code: wire.CodeLost})
		}
		delete(m.sessions, s.id)
		old.conn = c
		return old, say(&wire.Resumed{IDs: m.attached(old)})
	case *wire.Lock:
		return s, m.lock(c, s, id, msg)
	case *wire.Unlock:
		i := slices.IndexFunc(m.holds, func(h *mortalHold) bool { return slices.Contains(h.ids, msg.ID) })
		if i < 0 {
			return s, say(&wire.Error{Code: wire.CodeNotFound})
		}
		h := m.holds[i]
		at := slices.Index(h.ids, msg.ID)
		h.ids, h.paths = slices.Delete(h.ids, at, at+1), slices.Delete(h.paths, at, at+1)
		if len(h.ids) == 0 {
			m.holds = slices.Delete(m.holds, i, i+1)
		}
		return s, append(say(&wire.Released{IDs: []uint64{msg.ID}}), m.move()...)
	case *wire.Cancel:
		i := slices.IndexFunc(m.waiters, func(h *mortalHold) bool { return h.session == s.id && h.request == msg.Target })
		out := say(&wire.Done{})
		if i >= 0 {
			m.waiters = slices.Delete(m.waiters, i, i+1)
			out = append(out, answer{c, msg.Target, &wire.Error{Code: wire.CodeCanceled}})
		}
		return s, out
	case *wire.List:
		row := wire.Row{Kind: wire.RowHolder, ID: 1, Path: "/x", Mode: wire.Exclusive, Life: wire.Attached}
		return s, say(&wire.Rows{More: true, Rows: []wire.Row{row}}, &wire.Rows{More: true, Rows: []wire.Row{row}}, &wire.Rows{Rows: []wire.Row{row}})
	case *wire.Watch:
		s.watch = id
		return s, nil
	case *wire.Status:
		return s, say(&wire.StatusReply{Holds: uint32(len(m.holds))})
	}
	m.t.Errorf("mortal lockerd: unexpected %T", msg)
	return s, nil
}

// attached gives the ids of the session's attached holds.
func (m *mortal) attached(s *mortalSession) (ids []uint64) {
	for _, h := range m.holds {
		if h.session == s.id && !h.detached {
			ids = append(ids, h.ids...)
		}
	}
	slices.Sort(ids)
	return ids
}

// lock grants or enqueues, unless it has done that before.
func (m *mortal) lock(c *mortalConn, s *mortalSession, id uint32, l *wire.Lock) []answer {
	same := func(h *mortalHold) bool { return h.session == s.id && h.request == id }
	if i := slices.IndexFunc(m.holds, same); i >= 0 {
		return []answer{{c, id, m.holds[i].granted()}}
	}
	if !slices.ContainsFunc(m.waiters, same) {
		m.waiters = append(m.waiters, &mortalHold{paths: slices.Clone(l.Paths), session: s.id, request: id, detached: l.Life == wire.Detached})
	}
	out := m.move()
	if slices.ContainsFunc(m.waiters, same) {
		out = append(out, answer{c, id, &wire.Queued{Position: 1}})
	}
	return out
}

func (h *mortalHold) granted() *wire.Granted { return grants(h.ids...) }

// move grants what can be granted, in order, and tells whoever is there.
func (m *mortal) move() (out []answer) {
	busy := map[string]bool{}
	for _, h := range m.holds {
		for _, p := range h.paths {
			busy[p] = true
		}
	}
	m.waiters = slices.DeleteFunc(m.waiters, func(h *mortalHold) bool {
		free := !slices.ContainsFunc(h.paths, func(p string) bool { return busy[p] })
		for _, p := range h.paths {
			busy[p] = true
		}
		if !free {
			return false
		}
		for _, p := range h.paths {
			m.last++
			h.ids = append(h.ids, m.last)
			m.grants[p]++
		}
		m.holds = append(m.holds, h)
		if s := m.sessions[h.session]; s != nil && s.conn != nil {
			out = append(out, answer{s.conn, h.request, h.granted()})
		}
		return true
	})
	for _, s := range slices.Collect(maps.Values(m.sessions)) {
		if s.conn != nil && s.watch != 0 {
			out = append(out, answer{s.conn, s.watch, &wire.Changed{}})
		}
	}
	return out
}

// state gives how often each path was granted, and what is held and waited for.
func (m *mortal) state() (grants map[string]int, held, waiting []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.holds {
		held = append(held, h.paths...)
	}
	for _, h := range m.waiters {
		waiting = append(waiting, h.paths...)
	}
	return maps.Clone(m.grants), held, waiting
}

// free releases what an outsider, of no session, holds on path; block has him hold it.
func (m *mortal) block(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	m.holds = append(m.holds, &mortalHold{ids: []uint64{m.last}, paths: []string{path}})
}

func (m *mortal) free(path string) {
	m.mu.Lock()
	m.holds = slices.DeleteFunc(m.holds, func(h *mortalHold) bool { return h.session == 0 && h.paths[0] == path })
	out := m.move()
	m.mu.Unlock()
	for _, a := range out {
		a.to.say(a.id, a.m)
	}
}
