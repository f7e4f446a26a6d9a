package wire

// Resume is the first request of a connection that takes the place of a broken one: "this is the process of that
// session". Of version 2.
type Resume struct {
	Session uint64 // as in the Welcome that began it
}

// Type gives TypeResume.
func (m *Resume) Type() Type { return TypeResume }

func (m *Resume) append(e *encoder) { e.id("session", m.Session) }

func parseResume(d *decoder) *Resume { return &Resume{Session: d.id("session")} }

// Resumed answers Resume: from here on the connection is the session's. Of version 2.
type Resumed struct {
	IDs []uint64 // of the attached holds that the session still has, ascending
}

// Type gives TypeResumed.
func (m *Resumed) Type() Type { return TypeResumed }

func (m *Resumed) append(e *encoder) {
	if !e.count("ids", len(m.IDs), MaxIDs) {
		return
	}
	for _, id := range m.IDs {
		e.id("ids", id)
	}
	e.must("ids", m.ascend())
}

func parseResumed(d *decoder) *Resumed {
	n := d.count("ids", MaxIDs, 8)
	if n == 0 {
		return &Resumed{}
	}
	m := &Resumed{IDs: make([]uint64, n)}
	for i := range m.IDs {
		m.IDs[i] = d.id("ids")
	}
	d.must("ids", m.ascend())
	return m
}

// ascend reports whether each id is greater than the one before: one encoding for a set.
func (m *Resumed) ascend() bool {
	for i := 1; i < len(m.IDs); i++ {
		if m.IDs[i-1] >= m.IDs[i] {
			return false
		}
	}
	return true
}
