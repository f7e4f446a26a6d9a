package torture

import "fmt"

// dead reports whether a word's owner has been ended, and its hold with it. A detached hold has no owner that could die.
func (m *memory) dead(w word) bool {
	return !w.detached() && m.condemned[w.slot()].Load() >= w.life()
}

// claim enters an answered grant of one file, and says what is wrong with it, if anything is.
func (m *memory) claim(f int, w word, token uint64, shared bool, at int64) (wrong []event) {
	s := &m.file[f]
	s.token[w.owner()].Store(token)
	s.since[w.owner()].Store(at)
	report := func(kind, text string, other word) {
		e := event{Kind: kind, At: now(), Since: at, File: f, Mine: w, Other: other, Token: token, Text: text}
		if other != 0 {
			e.Their, e.Since = s.token[other.owner()].Load(), s.since[other.owner()].Load()
		}
		wrong = append(wrong, e)
	}
	if shared {
		// Enter first, then look: of two that come at the same time, at least one sees the other.
		s.shared[w.owner()].Store(uint64(w))
		if other := m.living(s.exclusive.Load, s.exclusive.CompareAndSwap); other != 0 {
			report(eventDouble, "granted to a reader while it is owned", other)
		}
		if last := s.lastExclusive.Load(); token <= last {
			report(eventToken, fmt.Sprintf("token %d after token %d", token, last), 0)
		}
		raise(s.lastShared.Load, s.lastShared.CompareAndSwap, token)
		return wrong
	}
	for !s.exclusive.CompareAndSwap(0, uint64(w)) {
		if other := m.living(s.exclusive.Load, s.exclusive.CompareAndSwap); other != 0 {
			report(eventDouble, "granted while it is owned", other)
			break
		}
	}
	for i := range s.shared {
		if other := m.living(s.shared[i].Load, s.shared[i].CompareAndSwap); other != 0 {
			report(eventDouble, "granted while somebody reads", other)
		}
	}
	if last := max(s.lastExclusive.Load(), s.lastShared.Load()); token <= last {
		report(eventToken, fmt.Sprintf("token %d after token %d", token, last), 0)
	}
	raise(s.lastExclusive.Load, s.lastExclusive.CompareAndSwap, token)
	return wrong
}

// living gives the owner of a place, and sweeps out a dead one.
func (m *memory) living(load func() uint64, swap func(old, new uint64) bool) word {
	w := word(load())
	if w != 0 && m.dead(w) {
		swap(uint64(w), 0)
		return 0
	}
	return w
}

func raise(load func() uint64, swap func(old, new uint64) bool, to uint64) {
	for old := load(); old < to && !swap(old, to); old = load() {
	}
}

// giveBack takes the word out again; before the unlock is sent, so that the next owner cannot find it.
func (m *memory) giveBack(f int, w word) {
	s := &m.file[f]
	s.exclusive.CompareAndSwap(uint64(w), 0)
	s.shared[w.owner()].CompareAndSwap(uint64(w), 0)
}

// owned gives the words of a file's living owners.
func (m *memory) owned(f int) (ws []word) {
	s := &m.file[f]
	if w := word(s.exclusive.Load()); w != 0 && !m.dead(w) {
		ws = append(ws, w)
	}
	for i := range s.shared {
		if w := word(s.shared[i].Load()); w != 0 && !m.dead(w) {
			ws = append(ws, w)
		}
	}
	return ws
}

// still reports whether w owns the file.
func (m *memory) still(f int, w word) bool {
	s := &m.file[f]
	return (word(s.exclusive.Load()) == w || word(s.shared[w.owner()].Load()) == w) && !m.dead(w)
}
