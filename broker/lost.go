package broker

import (
	"slices"

	"locker/audit"
	"locker/wire"
)

// lostHold is a detached hold of an earlier run that could not be had again. It keeps nobody out; it stays in the list until
// its owner (or root) clears it, so that he learns of it.
type lostHold struct {
	id     uint64
	uid    uint32
	grant  audit.Record
	path   string
	reason string // why it is lost
}

func (l *lostHold) row() wire.Row {
	g := &l.grant
	row := wire.Row{
		Kind: wire.RowLost, ID: l.id, Dev: g.Dev, Ino: g.Ino, Path: l.path, Mode: wire.Exclusive, Life: wire.Detached,
		UID: g.UID, User: g.User, PID: g.PID, Command: g.Command, Tag: g.Tag, Reason: l.reason, Since: g.Time,
	}
	if g.Mode == wire.Shared.String() {
		row.Mode = wire.Shared
	}
	return row
}

// lostHolds gives the lost holds by id. The caller holds mu.
func (b *Broker) lostHolds() []*lostHold {
	out := make([]*lostHold, 0, len(b.lost))
	for _, l := range b.lost {
		out = append(out, l)
	}
	slices.SortFunc(out, func(x, y *lostHold) int { return int(min(max(int64(x.id)-int64(y.id), -1), 1)) })
	return out
}

// clear records that a lost hold was taken note of. The caller holds mu.
func (b *Broker) clear(l *lostHold, w *who) uint64 {
	delete(b.lost, l.id)
	rec := audit.Record{Event: audit.EventCleared, ID: l.id, Path: l.path}
	w.sign(&rec)
	return b.append(&rec)
}

// clearLost clears what an Unlock names among the lost holds of its own uid (root: by id, anybody's), and puts the ids
// into the answer. It gives the last record's number. The caller holds mu.
func (b *Broker) clearLost(s *session, m *wire.Unlock, answer *wire.Released) (seq uint64) {
	if len(b.lost) == 0 {
		return 0
	}
	for _, l := range b.lostHolds() {
		mine := l.uid == s.peer.UID && (m.By == wire.ByID || m.AnyTag || l.grant.Tag == m.Tag)
		switch m.By {
		case wire.ByID:
			if l.id == m.ID && (mine || s.peer.UID == 0) {
				answer.IDs = append(answer.IDs, l.id)
				seq = b.clear(l, s.who)
			}
		case wire.ByAll:
			if mine {
				answer.IDs = append(answer.IDs, l.id)
				seq = b.clear(l, s.who)
			}
		default:
			if i := slices.Index(m.Paths, l.path); i >= 0 && mine {
				if answer.IDs[i] == 0 {
					answer.IDs[i] = l.id
				}
				seq = b.clear(l, s.who)
			}
		}
	}
	return seq
}
