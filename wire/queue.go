package wire

import "time"

// Queued says where a waiting Lock stands. It answers Lock, as often as the place changes, and Where.
type Queued struct {
	Position uint32    // 1: next; of a set, the worst over its files
	Blockers []Blocker // nearest first, at most MaxBlockers
}

// Type gives TypeQueued.
func (m *Queued) Type() Type { return TypeQueued }

func (m *Queued) append(e *encoder) {
	e.u32(m.Position)
	appendBlockers(e, m.Blockers)
}

func parseQueued(d *decoder) *Queued {
	return &Queued{Position: d.u32("position"), Blockers: parseBlockers(d)}
}

// Blocker is somebody in the way.
type Blocker struct {
	Kind    BlockerKind
	Hidden  bool // the client may not know who: every field below is zero
	Path    string
	UID     uint32
	User    string // empty: no such name
	PID     int32  // 0 or less: not known
	Command string
	Since   time.Time
	Reason  string
}

const blockerSize = 1 + 1 + 2 + 4 + 2 + 4 + 2 + 8 + 2

func appendBlockers(e *encoder, list []Blocker) {
	if !e.count("blockers", len(list), MaxBlockers) {
		return
	}
	for i := range list {
		b := &list[i]
		e.enum("kind", uint8(b.Kind), uint8(endBlockerKind))
		e.bool(b.Hidden)
		e.str("path", b.Path, MaxPath)
		e.u32(b.UID)
		e.str("user", b.User, MaxText)
		e.u32(uint32(b.PID))
		e.str("command", b.Command, MaxText)
		e.time("since", b.Since)
		e.str("reason", b.Reason, MaxReason)
		e.must("hidden", b.hides())
	}
}

func parseBlockers(d *decoder) []Blocker {
	n := d.count("blockers", MaxBlockers, blockerSize)
	if n == 0 {
		return nil
	}
	list := make([]Blocker, n)
	for i := range list {
		b := &list[i]
		b.Kind = BlockerKind(d.enum("kind", uint8(endBlockerKind)))
		b.Hidden = d.bool("hidden")
		b.Path = d.str("path", MaxPath)
		b.UID = d.u32("uid")
		b.User = d.str("user", MaxText)
		b.PID = int32(d.u32("pid"))
		b.Command = d.str("command", MaxText)
		b.Since = d.time("since")
		b.Reason = d.str("reason", MaxReason)
		d.must("hidden", b.hides())
	}
	return list
}

// hides reports whether a hidden blocker tells nothing.
func (b *Blocker) hides() bool {
	return !b.Hidden || b.Path == "" && b.UID == 0 && b.User == "" && b.PID == 0 && b.Command == "" && b.Since.IsZero() && b.Reason == ""
}

// Cancel takes a waiting Lock out of its queue, or ends a Watch; either then answers CodeCanceled. Done answers
// Cancel, whether or not there was still something to cancel.
type Cancel struct{ Target uint32 } // request id

// Type gives TypeCancel.
func (m *Cancel) Type() Type { return TypeCancel }

func (m *Cancel) append(e *encoder) {
	if m.Target == 0 {
		e.fail("target", ErrValue)
	}
	e.u32(m.Target)
}

func parseCancel(d *decoder) *Cancel {
	m := &Cancel{Target: d.u32("target")}
	if m.Target == 0 {
		d.fail("target", ErrValue)
	}
	return m
}

// Where asks where a waiting Lock stands now.
type Where struct{ Target uint32 } // request id of the Lock

// Type gives TypeWhere.
func (m *Where) Type() Type { return TypeWhere }

func (m *Where) append(e *encoder) {
	if m.Target == 0 {
		e.fail("target", ErrValue)
	}
	e.u32(m.Target)
}

func parseWhere(d *decoder) *Where {
	m := &Where{Target: d.u32("target")}
	if m.Target == 0 {
		d.fail("target", ErrValue)
	}
	return m
}

// Done answers Cancel.
type Done struct{}

// Type gives TypeDone.
func (m *Done) Type() Type { return TypeDone }
