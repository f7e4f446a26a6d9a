package broker

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"locker/authz"
	"locker/flock"
	"locker/wire"
)

// list answers with holders and waiters, ordered by path, then holders before waiters.
func (b *Broker) list(ctx context.Context, s *session, id uint32, m *wire.List) {
	if !s.acct.enterList(ctx, b) {
		s.refuse(id, wire.CodeUnavailable, "", "you have not read your other lists yet")
		return
	}
	defer s.acct.leaveList(b)
	rows := b.rows(s, m.All && b.mayListOthers(s))
	slices.SortStableFunc(rows, func(x, y wire.Row) int { return cmp.Compare(x.Path, y.Path) })
	frames, err := wire.AppendRows(nil, id, rows)
	if err != nil {
		b.logger.Error("list does not fit its frames", "error", err)
		s.refuse(id, wire.CodeInternal, "", "the list cannot be encoded")
		return
	}
	b.listAltered(s, id, rows)
	for len(frames) > 0 {
		n := 4 + int(binary.BigEndian.Uint32(frames))
		s.out.sendInTurn(frames[:n])
		frames = frames[n:]
	}
}

// rows collects what the peer may see: its own, and with all the others' too where the policy lets it list them. Under mu
// the rows are only copied; what the policy says of them is asked afterwards, so that a long list keeps nobody waiting.
func (b *Broker) rows(s *session, all bool) []wire.Row {
	rows, held, outside := b.copyRows(s, all)
	if all && s.peer.UID != 0 {
		policy := b.rules.Load().policy
		seen := map[string]bool{}
		may := func(path string) bool {
			ok, known := seen[path]
			if !known {
				ok = policy.Decide(&s.peer, authz.ActList, path).Allowed
				seen[path] = ok
			}
			return ok
		}
		var keptRows []wire.Row
		var keptFiles []*flock.File
		for i, row := range rows {
			if !row.Mine && !may(row.Path) {
				continue
			}
			keptRows = append(keptRows, row)
			if i < len(held) { // holders come first, here as there
				keptFiles = append(keptFiles, held[i])
			}
		}
		rows, held = keptRows, keptFiles
	}
	b.markStale(rows, held)
	return append(rows, b.outsideRows(s, outside)...)
}

// copyRows copies what a list may be about. held are the files of the first rows.
func (b *Broker) copyRows(s *session, all bool) (rows []wire.Row, held []*flock.File, outside []outsideRow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, boot := b.now(), b.boot()
	holds := b.visibleHolds(s, all)
	rows, held = make([]wire.Row, 0, len(holds)), make([]*flock.File, 0, len(holds))
	for _, h := range holds {
		row := holdRow(h, s.peer.UID)
		orphan := h.info.unknown
		if h.info.session != nil { // somebody who comes back to it knows it
			orphan = h.info.session.away
		}
		if s.resumes() && orphan {
			row.Kind = wire.RowOrphan
		}
		rows = append(rows, row)
		held = append(held, h.info.file)
	}
	places := map[key]map[*claim]uint32{}
	for _, c := range b.visibleClaims(s, all) {
		r := c.req
		for i, k := range c.keys {
			path := r.pathOf(i)
			row := waitRow(r, k, path, now.Add(r.began-boot), s.peer.UID)
			row.Position = b.placeIn(k, c, places)
			rows = append(rows, row)
			if r.isOutside && keyOf(r.outside.id) == k {
				outside = append(outside, outsideRow{key: k, place: r.outside})
			}
			if n := r.noise; n != nil && keyOf(n.id) == k {
				outside = append(outside, outsideRow{key: k, place: place{path: path}, noise: n})
			}
		}
	}
	for _, l := range b.lostHolds() {
		if all || l.uid == s.peer.UID {
			row := l.row()
			row.Mine = l.uid == s.peer.UID
			rows = append(rows, row)
		}
	}
	return rows, held, outside
}

// visibleHolds gives the holds that a list may be about. Who may list nothing but his own does not make us walk through
// everybody's. The caller holds mu.
func (b *Broker) visibleHolds(s *session, all bool) []*hold {
	if all {
		return b.table.allHolds()
	}
	return b.table.heldByUID(s.peer.UID)
}

// visibleClaims is visibleHolds for waiting claims.
func (b *Broker) visibleClaims(s *session, all bool) []*claim {
	if all {
		return b.table.allWaiting()
	}
	var own []*claim
	for _, other := range b.sessions {
		if other.peer.UID != s.peer.UID {
			continue
		}
		for _, r := range other.requests {
			if r.claim != nil && (r.claim.state == claimWaiting || r.claim.state == claimPending) {
				own = append(own, r.claim)
			}
		}
	}
	slices.SortFunc(own, func(x, y *claim) int { return cmp.Compare(x.arrival, y.arrival) })
	return own
}

// placeIn gives c's place in the queue of k, 1 = next. Queues are walked through once each.
func (b *Broker) placeIn(k key, c *claim, places map[key]map[*claim]uint32) uint32 {
	if places[k] == nil {
		places[k] = map[*claim]uint32{}
		for i, q := range b.table.queue(k) {
			places[k][q] = uint32(i + 1)
		}
	}
	return places[k][c]
}

// mayListOthers reports whether some rule lets the peer list other people's locks somewhere.
func (b *Broker) mayListOthers(s *session) bool {
	return s.peer.UID == 0 || slices.ContainsFunc(b.rules.Load().policy.Allowances(&s.peer), func(a authz.Allowance) bool {
		return slices.Contains(a.Can, authz.ActList.String())
	})
}

// outsideRow is a file that a claim waits for because of somebody outside the broker.
type outsideRow struct {
	key key
	place
	noise *noise // not nil: it is nobody in particular, but the bundle is not quiet
}

func (b *Broker) outsideRows(s *session, files []outsideRow) []wire.Row {
	policy := b.rules.Load().policy
	var rows []wire.Row
	for _, f := range files {
		if !b.maySee(&s.peer, ^uint32(0), f.path) {
			continue
		}
		if f.noise != nil {
			rows = append(rows, wire.Row{
				Kind: wire.RowOutside, Dev: f.key.dev, Ino: f.key.ino, Path: f.path, Mode: wire.Exclusive, Life: wire.Attached, Reason: f.noise.words(b.now()),
			})
			continue
		}
		for _, h := range b.outsideHolders(f.place) {
			rows = append(rows, wire.Row{
				Kind: wire.RowOutside, Dev: f.key.dev, Ino: f.key.ino, Path: f.path, Mode: wire.Exclusive, Life: wire.Attached,
				UID: h.UID, User: policy.Name(h.UID), PID: h.PID, Command: h.Command, Reason: howOutside(h),
			})
		}
	}
	return rows
}

func holdRow(h *hold, uid uint32) wire.Row {
	i := h.info
	return wire.Row{
		Kind: wire.RowHolder, ID: h.id, Dev: h.key.dev, Ino: h.key.ino, Path: i.path, Mode: wireMode(h.mode), Rests: i.rests, Life: i.life,
		UID: h.uid, User: i.who.user, PID: i.who.peer.PID, Command: i.who.command, Tag: i.tag, Reason: i.reason,
		Since: i.since, Expires: i.expires, Mine: h.uid == uid, Outlawed: i.outlawed, Ending: h.ending,
	}
}

func waitRow(r *request, k key, path string, since time.Time, uid uint32) wire.Row {
	return wire.Row{
		Kind: wire.RowWaiter, Dev: k.dev, Ino: k.ino, Path: path, Mode: r.msg.Mode, Life: r.msg.Life,
		UID: r.who.peer.UID, User: r.who.user, PID: r.who.peer.PID, Command: r.who.command, Tag: r.msg.Tag, Reason: r.msg.Reason,
		Since: since, Mine: r.who.peer.UID == uid,
	}
}

func wireMode(m mode) wire.Mode {
	if m == shared {
		return wire.Shared
	}
	return wire.Exclusive
}

// markStale says of each holder's row whether its name no longer leads to the locked file. The caller does not hold mu:
// paths are looked up. Network file systems, where that may hang, are left out.
func (b *Broker) markStale(rows []wire.Row, files []*flock.File) {
	lookout := b.rules.Load().opener.Lookout()
	defer lookout.Close()
	for i, f := range files {
		if f != nil && !f.Network { // none: of a lost hold
			same, err := lookout.LeadsTo(f.Target, f.ID) // not by its descriptor, which may be closed by now
			rows[i].Stale = err == nil && !same
		}
	}
}
