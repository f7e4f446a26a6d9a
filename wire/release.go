package wire

import "time"

// Unlock ends holds of the client's: those of this connection, and detached ones of its uid.
type Unlock struct {
	By     By
	Tag    string   // of detached holds; ByPath and ByAll only
	AnyTag bool     // whatever their tag: Tag is empty then; ByPath and ByAll only
	ID     uint64   // ByID only
	Paths  []string // ByPath only: 1 to MaxPaths
}

// Type gives TypeUnlock.
func (m *Unlock) Type() Type { return TypeUnlock }

func (m *Unlock) append(e *encoder) {
	e.enum("by", uint8(m.By), uint8(endBy))
	e.str("tag", m.Tag, MaxTag)
	e.bool(m.AnyTag)
	e.u64(m.ID)
	e.names("paths", m.Paths, MaxPaths, MaxPath)
	if field := m.clash(); field != "" {
		e.fail(field, ErrCombination)
	}
}

func parseUnlock(d *decoder) *Unlock {
	m := &struct { // as in parseLock
		Unlock
		one [1]string
	}{}
	m.By = By(d.enum("by", uint8(endBy)))
	m.Tag = d.str("tag", MaxTag)
	m.AnyTag = d.bool("any_tag")
	m.ID = d.u64("id")
	m.Paths = d.names("paths", m.one[:], MaxPaths, MaxPath)
	if field := m.clash(); field != "" {
		d.fail(field, ErrCombination)
	}
	return &m.Unlock
}

// clash names the field that does not go with the others; "" if all do.
func (m *Unlock) clash() string {
	switch {
	case m.Tag != "" && (m.By == ByID || m.AnyTag):
		return "tag"
	case m.AnyTag && m.By == ByID:
		return "any_tag"
	case (m.ID != 0) != (m.By == ByID):
		return "id"
	case (len(m.Paths) != 0) != (m.By == ByPath):
		return "paths"
	}
	return ""
}

// Released answers Unlock and Break.
type Released struct {
	IDs []uint64 // Unlock ByPath: one for each path in its order, 0 where there was no lock. Else those released
}

// Type gives TypeReleased.
func (m *Released) Type() Type { return TypeReleased }

func (m *Released) append(e *encoder) {
	if !e.count("ids", len(m.IDs), MaxIDs) {
		return
	}
	for _, id := range m.IDs {
		e.u64(id)
	}
}

func parseReleased(d *decoder) *Released {
	n := d.count("ids", MaxIDs, 8)
	if n == 0 {
		return &Released{}
	}
	m := &Released{IDs: make([]uint64, n)}
	for i := range m.IDs {
		m.IDs[i] = d.u64("ids")
	}
	return m
}

// Break ends holds of somebody else's.
type Break struct {
	By     By     // ByPath or ByID
	ID     uint64 // ByID only
	Path   string // ByPath only
	Reason string // not empty: it is told to the owner, and recorded
}

// Type gives TypeBreak.
func (m *Break) Type() Type { return TypeBreak }

func (m *Break) append(e *encoder) {
	e.enum("by", uint8(m.By), uint8(ByAll))
	e.u64(m.ID)
	e.str("path", m.Path, MaxPath)
	e.name("reason", m.Reason, MaxReason)
	if field := m.clash(); field != "" {
		e.fail(field, ErrCombination)
	}
}

func parseBreak(d *decoder) *Break {
	m := &Break{
		By: By(d.enum("by", uint8(ByAll))), ID: d.u64("id"),
		Path: d.str("path", MaxPath), Reason: d.name("reason", MaxReason),
	}
	if field := m.clash(); field != "" {
		d.fail(field, ErrCombination)
	}
	return m
}

func (m *Break) clash() string {
	switch {
	case (m.ID != 0) != (m.By == ByID):
		return "id"
	case (m.Path != "") != (m.By == ByPath):
		return "path"
	}
	return ""
}

// Lost is an event, with request id 0: an attached hold of this connection's ends without its doing. The next owner is
// granted only after Grace, or when the client has unlocked it.
type Lost struct {
	ID     uint64
	Cause  LossCause
	By     string // who broke it, for people
	Reason string // of the Break
	Path   string
	Grace  time.Duration // at most MaxGrace
}

// Type gives TypeLost.
func (m *Lost) Type() Type { return TypeLost }

func (m *Lost) append(e *encoder) {
	e.id("id", m.ID)
	e.enum("cause", uint8(m.Cause), uint8(endLossCause))
	e.str("by", m.By, MaxText)
	e.str("reason", m.Reason, MaxReason)
	e.str("path", m.Path, MaxPath)
	e.duration("grace", m.Grace, MaxGrace)
}

func parseLost(d *decoder) *Lost {
	return &Lost{
		ID: d.id("id"), Cause: LossCause(d.enum("cause", uint8(endLossCause))), By: d.str("by", MaxText),
		Reason: d.str("reason", MaxReason), Path: d.str("path", MaxPath), Grace: d.duration("grace", MaxGrace),
	}
}
