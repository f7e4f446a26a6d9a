package wire

import (
	"slices"
	"time"
)

// List asks who holds and who waits.
type List struct {
	All bool // everything that the client may list; else its own
}

// Type gives TypeList.
func (m *List) Type() Type { return TypeList }

func (m *List) append(e *encoder) { e.bool(m.All) }

func parseList(d *decoder) *List { return &List{All: d.bool("all")} }

// Rows answers List, in as many frames as it takes.
type Rows struct {
	More bool // another Rows follows
	Rows []Row
}

// Row is one holder or waiter of one file. Of one outside the broker only Kind, Dev, Ino, Path, UID, User, PID, Command and
// Reason are known.
type Row struct {
	Kind     RowKind
	ID       uint64 // 0 for a waiter and outside
	Dev, Ino uint64
	Path     string
	Mode     Mode // Exclusive where it is not known: outside
	Rests    Rest
	Life     Life // Attached outside
	UID      uint32
	User     string // empty: no such name
	PID      int32  // 0 or less: not known
	Command  string
	Tag      string
	Reason   string
	Since    time.Time
	Expires  time.Time // zero: does not
	Position uint32    // of a waiter; else 0

	Mine     bool // belongs to the asking uid
	Stale    bool // the path no longer leads to the locked file
	Outlawed bool // the policy in force would not grant it now
	Ending   bool // broken or expired, and in its grace
}

const rowSize = 1 + 3*8 + 2 + 3 + 4 + 2 + 4 + 3*2 + 2*8 + 4 + 4

// Type gives TypeRows.
func (m *Rows) Type() Type { return TypeRows }

func (m *Rows) append(e *encoder) {
	e.bool(m.More)
	if !e.count("rows", len(m.Rows), MaxListed) {
		return
	}
	for i := range m.Rows {
		m.Rows[i].append(e)
	}
}

func parseRows(d *decoder) *Rows {
	m := &Rows{More: d.bool("more")}
	n := d.count("rows", MaxListed, rowSize)
	if n == 0 {
		return m
	}
	m.Rows = make([]Row, n)
	for i := range m.Rows {
		m.Rows[i].parse(d)
	}
	return m
}

func (r *Row) append(e *encoder) {
	e.enum("kind", uint8(r.Kind), uint8(endRowKind))
	e.u64(r.ID)
	e.u64(r.Dev)
	e.u64(r.Ino)
	e.str("path", r.Path, MaxPath)
	e.enum("mode", uint8(r.Mode), uint8(endHeldMode))
	e.rests("rests", r.Rests)
	e.enum("life", uint8(r.Life), uint8(endLife))
	e.u32(r.UID)
	e.str("user", r.User, MaxText)
	e.u32(uint32(r.PID))
	e.str("command", r.Command, MaxText)
	e.str("tag", r.Tag, MaxTag)
	e.str("reason", r.Reason, MaxReason)
	e.time("since", r.Since)
	e.time("expires", r.Expires)
	e.u32(r.Position)
	e.bool(r.Mine)
	e.bool(r.Stale)
	e.bool(r.Outlawed)
	e.bool(r.Ending)
	e.must("position", r.Position == 0 || r.Kind == RowWaiter)
}

func (r *Row) parse(d *decoder) {
	r.Kind = RowKind(d.enum("kind", uint8(endRowKind)))
	r.ID = d.u64("id")
	r.Dev = d.u64("dev")
	r.Ino = d.u64("ino")
	r.Path = d.str("path", MaxPath)
	r.Mode = Mode(d.enum("mode", uint8(endHeldMode)))
	r.Rests = d.rests("rests")
	r.Life = Life(d.enum("life", uint8(endLife)))
	r.UID = d.u32("uid")
	r.User = d.str("user", MaxText)
	r.PID = int32(d.u32("pid"))
	r.Command = d.str("command", MaxText)
	r.Tag = d.str("tag", MaxTag)
	r.Reason = d.str("reason", MaxReason)
	r.Since = d.time("since")
	r.Expires = d.time("expires")
	r.Position = d.u32("position")
	r.Mine = d.bool("mine")
	r.Stale = d.bool("stale")
	r.Outlawed = d.bool("outlawed")
	r.Ending = d.bool("ending")
	d.must("position", r.Position == 0 || r.Kind == RowWaiter)
}

// AppendRows appends as many Rows frames as rows need: the whole answer to a List. On an error dst is as it was.
func AppendRows(dst []byte, request uint32, rows []Row) ([]byte, error) {
	start := len(dst)
	size := 0
	for i := range rows {
		r := &rows[i]
		size += rowSize + len(r.Path) + len(r.User) + len(r.Command) + len(r.Tag) + len(r.Reason)
	}
	dst = slices.Grow(dst, size+size/32) // with the frames' heads; grown step by step, all would be copied several times
	for {
		frame := len(dst)
		e := encoder{buf: begin(dst, request, TypeRows)}
		e.bool(false)
		e.u16(0)
		n := 0
		for n < len(rows) && n < MaxListed && e.err == nil {
			before := len(e.buf)
			rows[n].append(&e)
			if len(e.buf)-frame-prefixLen > MaxFrame {
				e.buf = e.buf[:before]
				break
			}
			n++
		}
		rows = rows[n:]
		if len(rows) > 0 {
			e.buf[frame+prefixLen+headLen] = 1 // more
		}
		e.buf[frame+prefixLen+headLen+1], e.buf[frame+prefixLen+headLen+2] = byte(n>>8), byte(n)
		var err error
		if dst, err = e.end(frame, TypeRows); err != nil {
			return dst[:start], err
		}
		if len(rows) == 0 {
			return dst, nil
		}
	}
}

// Watch asks for Changed events until it is cancelled.
type Watch struct{}

// Type gives TypeWatch.
func (m *Watch) Type() Type { return TypeWatch }

// Changed answers Watch, as often as there may be something new to List.
type Changed struct{}

// Type gives TypeChanged.
func (m *Changed) Type() Type { return TypeChanged }
