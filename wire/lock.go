package wire

import "time"

// Lock asks for all of Paths or none. It is answered by any number of Queued, then by one Granted or Error.
type Lock struct {
	Mode    Mode
	Wait    Wait
	Timeout time.Duration // only with Timed; 0 is "now or CodeTimeout"
	Life    Life
	TTL     time.Duration // only Detached; 0: no lease
	Grace   time.Duration // only Attached: how long the client needs to clean up after Lost; at most MaxGrace
	Tag     string        // only Detached: part of the owner, next to the uid
	Reason  string        // for those who are in its way
	Paths   []string      // 1 to MaxPaths
}

// Type gives TypeLock.
func (m *Lock) Type() Type { return TypeLock }

func (m *Lock) append(e *encoder) {
	e.enum("mode", uint8(m.Mode), uint8(endMode))
	e.enum("wait", uint8(m.Wait), uint8(endWait))
	e.duration("timeout", m.Timeout, forever)
	e.enum("life", uint8(m.Life), uint8(endLife))
	e.duration("ttl", m.TTL, forever)
	e.duration("grace", m.Grace, MaxGrace)
	e.str("tag", m.Tag, MaxTag)
	e.str("reason", m.Reason, MaxReason)
	e.names("paths", m.Paths, MaxPaths, MaxPath)
	if field := m.clash(); field != "" {
		e.fail(field, ErrCombination)
	}
}

func parseLock(d *decoder) *Lock {
	// Nearly every Lock names one path: its list lives next to it, in one allocation instead of two.
	m := &struct {
		Lock
		one [1]string
	}{}
	m.Mode = Mode(d.enum("mode", uint8(endMode)))
	m.Wait = Wait(d.enum("wait", uint8(endWait)))
	m.Timeout = d.duration("timeout", forever)
	m.Life = Life(d.enum("life", uint8(endLife)))
	m.TTL = d.duration("ttl", forever)
	m.Grace = d.duration("grace", MaxGrace)
	m.Tag = d.str("tag", MaxTag)
	m.Reason = d.str("reason", MaxReason)
	m.Paths = d.names("paths", m.one[:], MaxPaths, MaxPath)
	if field := m.clash(); field != "" {
		d.fail(field, ErrCombination)
	}
	return &m.Lock
}

// clash names the field that does not go with the others; "" if all do.
func (m *Lock) clash() string {
	switch {
	case m.Timeout != 0 && m.Wait != Timed:
		return "timeout"
	case m.TTL != 0 && m.Life != Detached:
		return "ttl"
	case m.Grace != 0 && m.Life != Attached:
		return "grace"
	case m.Tag != "" && m.Life != Detached:
		return "tag"
	case len(m.Paths) == 0:
		return "paths"
	}
	return ""
}

// Granted answers Lock.
type Granted struct{ Grants []Grant } // in the order of Lock.Paths

// Grant is one file's lock.
type Grant struct {
	ID      uint64    // of the hold; also its fencing token: a later grant of any file has a greater one
	Already bool      // the owner held it before, with this same id
	Rests   Rest      // not empty
	Expires time.Time // zero: does not
}

const grantSize = 8 + 1 + 1 + 8

// Type gives TypeGranted.
func (m *Granted) Type() Type { return TypeGranted }

func (m *Granted) append(e *encoder) {
	if len(m.Grants) == 0 {
		e.fail("grants", ErrCombination)
	}
	if !e.count("grants", len(m.Grants), MaxPaths) {
		return
	}
	for i := range m.Grants {
		g := &m.Grants[i]
		e.id("id", g.ID)
		e.bool(g.Already)
		if g.Rests == 0 {
			e.fail("rests", ErrValue)
		}
		e.rests("rests", g.Rests)
		e.time("expires", g.Expires)
	}
}

func parseGranted(d *decoder) *Granted {
	n := d.count("grants", MaxPaths, grantSize)
	if n == 0 {
		d.fail("grants", ErrCombination)
		return nil
	}
	m := &Granted{Grants: make([]Grant, n)}
	for i := range m.Grants {
		g := Grant{ID: d.id("id"), Already: d.bool("already"), Rests: d.rests("rests"), Expires: d.time("expires")}
		if g.Rests == 0 {
			d.fail("rests", ErrValue)
		}
		m.Grants[i] = g
	}
	return m
}
