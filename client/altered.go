package client

import (
	"slices"
	"time"

	"locker/wire"
)

// Alteration says that files of a lock were deleted, renamed or replaced, which no lock prevents, or that it was not guarded all the time. The
// lock stays ours; what was read under it may not be whole. Who altered files is not known: it may have been us.
type Alteration struct {
	Token  uint64
	Path   string
	Count  uint32    // how many, since the lock was granted; 0: none that is known
	Last   string    // the last of them, within a bundle; "": the locked file itself, or the bundle
	At     time.Time // when lockerd noticed it; zero: never
	Missed bool      // there may be more
	Lapsed bool      // whom the guard refuses may have opened files while it was away, and may have them open still
}

// Altered gives the channel on which an Alteration arrives when files of an attached lock were altered or it was not guarded all the time:
// soon after the first, then at most once a second for each path, with the sum. Nobody need receive: of each path the newest is kept. It is
// closed together with Lost. A lockerd that speaks a version of the protocol before 4 tells nothing.
func (l *Lock) Altered() <-chan Alteration { return l.altered }

// alter passes an event on. The caller (the reader) holds mu.
func (c *Client) alter(m *wire.Altered) {
	for _, a := range m.Alterations {
		if len(c.holds[a.ID]) == 0 {
			c.expectAltered(a)
		}
		for _, l := range c.holds[a.ID] {
			l.alter(a)
		}
	}
}

// alter tells the lock's owner, under the path by which he asked for it, what he has not heard yet: a lockerd that is back tells again. The
// caller (the reader) holds mu.
func (l *Lock) alter(a wire.Alteration) {
	if before, ok := l.heard[a.ID]; ok && before.Count == a.Count && before.Missed == a.Missed && before.Lapsed == a.Lapsed {
		return
	}
	if l.heard == nil {
		l.heard = map[uint64]wire.Alteration{}
	}
	l.heard[a.ID] = a
	kept := []Alteration{}
	for empty := false; !empty; {
		select {
		case k := <-l.altered:
			if k.Token != a.ID {
				kept = append(kept, k)
			}
		default:
			empty = true
		}
	}
	i := slices.IndexFunc(l.holds, func(h Hold) bool { return h.Token == a.ID })
	kept = append(kept, Alteration{Token: a.ID, Path: l.holds[i].Path, Count: a.Count, Last: a.Last, At: a.At, Missed: a.Missed, Lapsed: a.Lapsed})
	for _, k := range kept {
		l.altered <- k // has room: it is one of each id, and nobody else sends
	}
}

// expectAltered keeps what is told of a hold before its grant, as expect does. The caller holds mu.
func (c *Client) expectAltered(a wire.Alteration) {
	const most = 64
	for _, k := range c.calls {
		if k.request != nil && len(c.soon) < most {
			c.soon[a.ID] = a
			return
		}
	}
	clear(c.soon)
}

// note keeps what a List tells before its rows.
func (k *call) note(m *wire.Altered) {
	if k.altered == nil {
		k.altered = map[uint64]wire.Alteration{}
	}
	for _, a := range m.Alterations {
		k.altered[a.ID] = a
	}
}

// listed puts the rows of one message together with what was told of them.
func (k *call) listed(rows []wire.Row) {
	for _, r := range rows {
		k.rows = append(k.rows, Row{Row: r, Altered: k.altered[r.ID]})
	}
}
