package wire

import "time"

// Altered says what has become of the files of holds: with request id 0 an event, to the session that has them; before the Rows of a List,
// of those in the list. Of version 4.
type Altered struct {
	Alterations []Alteration
}

// Alteration is what has become of the files of one hold.
type Alteration struct {
	ID        uint64
	Count     uint32    // how many were deleted, renamed or replaced, all told
	Last      string    // the last of them, within the bundle; empty: the held file itself, or the bundle
	At        time.Time // when that was noticed; zero: never
	Missed    bool      // there may be more
	Unwatched bool      // what happens from now on is not noticed
	Lapsed    bool      // the guard, on which the hold rests or rested, did not guard it all the time since the grant
}

const alterationSize = 8 + 4 + 2 + 8 + 3

// Type gives TypeAltered.
func (m *Altered) Type() Type { return TypeAltered }

func (m *Altered) append(e *encoder) {
	if !e.count("alterations", len(m.Alterations), MaxAltered) {
		return
	}
	for i := range m.Alterations {
		a := &m.Alterations[i]
		e.id("id", a.ID)
		e.u32(a.Count)
		e.str("last", a.Last, MaxText)
		e.time("at", a.At)
		e.bool(a.Missed)
		e.bool(a.Unwatched)
		e.bool(a.Lapsed)
	}
}

func parseAltered(d *decoder) *Altered {
	n := d.count("alterations", MaxAltered, alterationSize)
	if n == 0 {
		return &Altered{}
	}
	m := &Altered{Alterations: make([]Alteration, n)}
	for i := range m.Alterations {
		m.Alterations[i] = Alteration{
			ID: d.id("id"), Count: d.u32("count"), Last: d.str("last", MaxText), At: d.time("at"),
			Missed: d.bool("missed"), Unwatched: d.bool("unwatched"), Lapsed: d.bool("lapsed"),
		}
	}
	return m
}
