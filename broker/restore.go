package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"locker/audit"
	"locker/authz"
	"locker/flock"
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

// restore takes back, before any client is served, the detached holds that the log knows of an earlier run. What was attached
// has ended with its connection; what cannot be had again is lost.
func (b *Broker) restore(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock() // nobody else is there yet; append's rule is kept all the same
	start := audit.Record{Event: audit.EventStart, PID: int32(selfPID()), Text: b.version}
	if b.append(&start) == 0 {
		return errors.Join(errors.New("broker: the log does not take the start"), b.log.Health().Err)
	}
	policy := policyRecord(b.rules.Load().policy)
	last := b.append(&policy)
	state := b.log.Replayed()
	for _, l := range state.Lost() {
		b.lost[l.Grant.Seq] = &lostHold{id: l.Grant.Seq, uid: l.Grant.UID, grant: l.Grant, path: l.Grant.Path, reason: "lost"}
	}
	for _, old := range state.Holds() {
		rec := old.Grant // whose it was, and what
		rec.ID, rec.Grace = old.Grant.Seq, 0
		text := b.takeBack(&old.Grant)
		rec.Rests = old.Grant.Rests
		switch {
		case old.Grant.Life != wire.Detached.String():
			rec.Event, rec.Text = audit.EventDeath, "lockerd was not running any more"
		case text == "":
			rec.Event = audit.EventResume
		case text == leaseOver:
			rec.Event = audit.EventExpire
		default:
			rec.Event, rec.Text = audit.EventLost, text
			b.lost[old.Grant.Seq] = &lostHold{id: old.Grant.Seq, uid: old.Grant.UID, grant: old.Grant, path: old.Grant.Path, reason: "lost: " + text}
			b.logger.Warn("lock lost", "path", old.Grant.Path, "uid", old.Grant.UID, "reason", text)
		}
		last = b.append(&rec)
	}
	b.recheckHolds()
	if err := b.log.Commit(last, true); err != nil {
		// A full disk must not keep the locks of before from being held: it refuses grants until there is room.
		b.logger.Error("start not recorded on disk: nothing is granted until it can be", "error", err)
	}
	return nil
}

const leaseOver = "its lease is over"

// takeBack claims one detached hold again; it gives why that cannot be, "" if it is held.
func (b *Broker) takeBack(g *audit.Record) string {
	now, boot := b.now(), b.boot()
	if g.Life != wire.Detached.String() {
		return "attached"
	}
	if !g.Expires.IsZero() && !g.Expires.After(now) {
		return leaseOver
	}
	m, km := exclusive, flock.Exclusive
	if g.Mode == wire.Shared.String() {
		m, km = shared, flock.Shared
	}
	var engines flock.Engines
	for _, r := range g.Rests {
		switch r {
		case "ofd":
			engines |= flock.OFD
		case "flock":
			engines |= flock.BSD
		}
	}
	f, text := b.lockAgain(g, flock.Want{Mode: km, Hardlinks: true, Engines: engines})
	if f == nil {
		return text
	}
	g.Rests = restNames[restsOf(f.Engines)&3] // a file may have become executable since
	if b.keep != nil {
		if err := b.keep.Put(g.Seq, f.FD()); err != nil {
			f.Unlock()
			f.Close()
			return "its descriptor cannot be kept: " + errText(err)
		}
	}
	info := &holdInfo{
		file: f, path: g.Path, target: g.Target, rests: restsOf(f.Engines), life: wire.Detached, tag: g.Tag, reason: g.Reason, rule: g.Rule,
		since: g.Time, began: boot - now.Sub(g.Time), expires: g.Expires,
		who: &who{
			peer: authz.PeerFor(g.UID, g.GID, nil), user: g.User, login: g.LoginUID, hasLogin: g.HasLogin, start: g.Start,
			command: g.Command, restored: true,
		},
	}
	info.who.peer.PID = g.PID
	if !g.Expires.IsZero() {
		// No longer than it was granted for: the wall clock may have been set back since, or not yet be set.
		left := min(g.Expires.Sub(now), g.Expires.Sub(g.Time))
		info.due.at = boot + max(left, time.Millisecond)
	}
	h := &hold{id: g.Seq, key: keyOf(f.ID), owner: owner{uid: g.UID, tag: g.Tag}, uid: g.UID, mode: m}
	b.table.restore(h)
	b.adopt(h, info)
	return ""
}

// networkPatience is how long one hold on a network file system may keep lockerd from starting.
const networkPatience = 5 * time.Second

// lockAgain opens and locks the file of an old hold, or says why it cannot.
func (b *Broker) lockAgain(g *audit.Record, w flock.Want) (*flock.File, string) {
	opener := b.rules.Load().opener
	try := func() (*flock.File, string) {
		f, err := opener.Open(g.Path, w)
		if err != nil {
			return nil, "it cannot be opened again: " + errText(err)
		}
		if f.ID != (flock.ID{Dev: g.Dev, Ino: g.Ino}) {
			f.Close()
			return nil, "another file stands under this name now"
		}
		if err := f.TryLock(w.Mode); err != nil {
			f.Close()
			return nil, "it cannot be locked again: " + errText(err)
		}
		return f, ""
	}
	if !opener.Network(g.Path) {
		return try()
	}
	type result struct {
		f    *flock.File
		text string
	}
	done := make(chan result, 1)
	b.work.Go(func() { // may hang for as long as a server does not answer
		f, text := try()
		done <- result{f, text}
	})
	over := time.NewTimer(networkPatience)
	defer over.Stop()
	select {
	case r := <-done:
		return r.f, r.text
	case <-over.C:
		b.work.Go(func() {
			if r := <-done; r.f != nil {
				r.f.Unlock()
				r.f.Close()
			}
		})
		return nil, "its file system does not answer"
	}
}
