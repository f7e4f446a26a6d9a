package broker

import (
	"context"

	"locker/audit"
	"locker/wire"
)

// An attached hold that could not be had again is lost, but its client, which goes on, does not know it yet. Until it does, nobody
// else is given the file: two clients would believe to have it. So the hold stays in the table, as one that is ending and has no
// file; programs outside are not kept out, and the record says that it is lost. It goes when its session comes back, and is told by
// not finding it among its ids, or when the session ends, which is after Config.Patience at the latest. Then it is cleared.

// keepUntold keeps the file of a lost attached hold from everybody, as long as somebody lives who believes to have it.
func (x *restoring) keepUntold(g *audit.Record) {
	pidfd := -1
	if x.sameBoot {
		pidfd = x.processOf(g.PID, g.Start)
	}
	if x.failed != nil {
		return
	}
	if pidfd < 0 {
		x.record(audit.Record{Seq: g.Seq, Path: g.Path}, audit.EventCleared, "its process has ended")
		return
	}
	info := x.infoOfRecord(g, nil)
	info.who.peer.PidFD, info.untold = pidfd, true
	version := uint8(resumeVersion)
	if !info.resumes {
		version = wire.FirstVersion
	}
	info.session = x.addAway(g.Session, info.who, version)
	info.who = info.session.who
	h := &hold{
		id: g.Seq, key: key{g.Dev, g.Ino}, owner: owner{uid: g.UID, session: g.Session}, uid: g.UID, mode: tableMode(g), ending: true,
	}
	x.table.restore(h)
	x.adopt(h, info)
}

// clearUntold lets go of what a session that has come back has lost; it has just been told. The caller does not hold mu.
func (b *Broker) clearUntold(ctx context.Context, s *session) {
	b.mu.Lock()
	var told []*hold
	for _, h := range b.table.heldBy(owner{uid: s.peer.UID, session: s.id}) {
		if h.info.untold {
			told = append(told, h)
		}
	}
	told = b.beginEnd(told)
	b.mu.Unlock()
	evs, seq := b.finishEnd(ctx, told, func(*hold, *audit.Record) {})
	b.commit(seq)
	b.runApart(ctx, evs)
}
