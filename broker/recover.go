package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// fromKeeper takes over the holds among what the keeper has, and gives the places in queues.
func (x *restoring) fromKeeper(listed []keeper.Entry) (places []keeper.Entry) {
	seen := examine(x.rules.Load().opener, listed)
	for i, e := range listed {
		if x.failed != nil {
			return append(places, listed[i:]...)
		}
		if e.ID&waitBit != 0 {
			places = append(places, e)
			continue
		}
		if !x.recoverHold(e, &seen[i]) && x.failed == nil {
			x.keeping.conn.Drop(e.ID)
		}
	}
	return places
}

// recoverHold takes one hold over; false if it is not one (any more), and then it is let go.
func (x *restoring) recoverHold(e keeper.Entry, seen *flock.Examined) bool {
	_, known := x.known[e.ID]
	delete(x.known, e.ID)
	k, err := parseBlob(e.Blob)
	if err == nil && (k.boot != x.bootID || k.kind != keptHold) {
		k, err = nil, errors.New("of another run of the machine, or no lock's")
	}
	if err != nil {
		x.logger.Error("the keeper's words about a lock are not understood", "id", e.ID, "in_log", known, "error", err)
		if !known {
			return x.recoverNobodys(e, seen)
		}
	}
	h, _ := x.log.Replayed().Get(e.ID)
	g := h.Grant
	if !known {
		g = x.grantOf(e, k)
	}
	attached := g.Life == wire.Attached.String()
	if attached && e.Holder < 0 { // before Linux 6.5 a peer has no pidfd
		if e.Holder = x.processOf(g.PID, g.Start); x.failed != nil {
			closeEntry(e)
			return false
		}
	}
	m := modeOfRecord(&g)
	target := g.Path
	if g.Target != "" {
		target = g.Target
	}
	file, err := seen.Adopt(g.Path, target, m)
	if err != nil {
		x.closeAside(e)
		switch {
		case isShortage(err):
			x.fail(err)
		case !known:
		case errors.Is(err, flock.ErrNotHeld):
			x.record(g, audit.EventRelease, "it was being released when lockerd died")
		default:
			x.lose(g, "its copy cannot be used: "+errText(err))
		}
		return false
	}
	event, text := audit.Event(""), ""
	switch {
	case !known && x.whole:
		text = "never answered" // its record would be in the log
	case file.ID != flock.ID{Dev: g.Dev, Ino: g.Ino}:
		event, text = audit.EventLost, "the keeper's copy is of another file"
	case attached && (e.Holder < 0 || dead(e.Holder)):
		event, text = audit.EventDeath, "its process died while lockerd was not running"
	case !attached && k != nil && k.due > 0 && k.due <= x.boot():
		event, text = audit.EventExpire, leaseOver
	}
	if text != "" {
		x.letGoOf(file)
		closeHolder(e)
		switch {
		case !known:
		case event == audit.EventLost:
			x.lose(g, text)
		default:
			x.record(g, event, text)
		}
		return false
	}
	// Never asked again: its lock was never let go, and whoever has opened the file since was free to.
	file.Idle = known && restsOnIdle(&g) || k != nil && k.flags&flagIdle != 0
	x.holdOn(e, k, g, known && h.Ending, file, known)
	if !known {
		g.Rests = restNames[restsOf(file)]
		x.record(g, audit.EventResume, "the log had lost it")
		x.logger.Warn("held on, though the log does not know it", "id", e.ID, "path", g.Path, "uid", g.UID)
	}
	return true
}

// grantOf makes up the record of a grant that the log has lost.
func (x *restoring) grantOf(e keeper.Entry, k *blob) audit.Record {
	g := audit.Record{
		Seq: e.ID, ID: e.ID, Event: audit.EventGrant, Time: x.now().Add(k.began - x.boot()), Boot: k.began,
		Peer: true, UID: k.uid, GID: k.gid, User: x.rules.Load().policy.Name(k.uid), PID: k.pid, Start: k.start,
		Path: k.path, Dev: k.dev, Ino: k.ino, Mode: wireMode(k.mode).String(), Life: k.life.String(), Tag: k.tag, Grace: k.grace, Request: k.request,
	}
	if k.flags&flagPathLeft != 0 {
		g.Path = nameOf(e.Lock)
	}
	if k.flags&flagBundle != 0 && k.flags&flagPathLeft == 0 {
		g.Target = k.path + "/token"
	}
	if k.life == wire.Attached {
		g.Session = k.session
	}
	if k.due > 0 && k.flags&flagEnding == 0 {
		g.Expires = x.now().Add(k.due - x.boot())
	}
	return g
}

// holdOn enters a hold whose lock was never let go.
func (x *restoring) holdOn(e keeper.Entry, k *blob, g audit.Record, ending bool, file *flock.File, known bool) {
	info := x.infoOfRecord(&g, file)
	info.unknown = info.unknown || !known
	h := &hold{id: e.ID, key: keyOf(file.ID), owner: owner{uid: g.UID, tag: g.Tag}, uid: g.UID, mode: tableMode(&g)}
	version := uint8(resumeVersion)
	if k != nil {
		info.by, info.request = k.session, k.request
		info.resumes = k.flags&flagResumes != 0
		ending = ending || k.flags&flagEnding != 0
	}
	if !info.resumes {
		version = wire.FirstVersion
	}
	if info.life == wire.Attached {
		info.who.peer.PidFD = e.Holder
		h.owner = owner{uid: g.UID, session: g.Session}
		info.session = x.addAway(g.Session, info.who, version)
		info.who = info.session.who
	} else {
		closeHolder(e)
		if info.resumes {
			x.awaitAsker(info)
		}
	}
	h.ending = ending
	x.enterRestored(h, info, k)
}

// awaitAsker has the session that asked for a detached hold be away, too, if its process lives: the answer may not have reached it,
// and then it comes back to ask for it again.
func (x *restoring) awaitAsker(info *holdInfo) {
	if info.by == 0 || x.sessions[info.by] != nil {
		return
	}
	if pidfd := x.processOf(info.who.peer.PID, info.who.start); pidfd >= 0 {
		asker := *info.who
		asker.peer.PidFD = pidfd
		x.addAway(info.by, &asker, resumeVersion)
	}
}

// enterRestored puts a hold of an earlier run into the table and our books, with the deadline that it had.
func (x *restoring) enterRestored(h *hold, info *holdInfo, k *blob) {
	at := time.Duration(0)
	switch {
	case h.ending && (k == nil || k.flags&flagEnding == 0): // the keeper was not told when the grace ends
		at = x.boot() + info.grace
	case k != nil:
		at = k.due
	case !info.expires.IsZero():
		at = max(info.began+info.expires.Sub(info.since), x.boot()+time.Millisecond)
	}
	info.due.at, info.earlier = 0, true
	before, _ := x.log.Replayed().Get(h.id)
	rememberAltered(info, h.id, before.Alteration)
	x.table.restore(h)
	x.adopt(h, info)
	switch {
	case h.ending:
		x.arm(&info.due, at, deadlineGrace, nil, h)
	case at > 0:
		x.arm(&info.due, at, deadlineLease, nil, h)
	}
}

// beganOf is when a hold of the log was granted, on the boot clock. Within one boot the log knows, whatever the wall clock has been
// set to since. Of another boot the wall clock has to tell; but it may have been set back, or not yet be set: not later than now.
func (x *restoring) beganOf(g *audit.Record) time.Duration {
	if x.sameBoot {
		return min(g.Boot, x.began)
	}
	return min(x.boot()-x.now().Sub(g.Time), x.boot())
}

// infoOfRecord is what the record of a grant says of its hold.
func (x *restoring) infoOfRecord(g *audit.Record, file *flock.File) *holdInfo {
	info := &holdInfo{
		file: file, path: g.Path, target: g.Target, life: wire.Detached, tag: g.Tag, reason: g.Reason, rule: g.Rule,
		grace: g.Grace, since: g.Time, began: x.beganOf(g), expires: g.Expires, by: g.Session, request: g.Request, resumes: g.Request != 0,
		unknown: g.UID == nobody,
		who: &who{
			peer: authz.PeerFor(g.UID, g.GID, nil), user: g.User, login: g.LoginUID, hasLogin: g.HasLogin, start: g.Start,
			command: g.Command, restored: true,
		},
	}
	if file != nil {
		info.rests = restsOf(file)
	}
	// Which ended with the run before. Of a hold that was guarded only later, or is claimed again a second time, nothing is known before
	// it is guarded anew: then it has lapsed all the same, and until then the list shows that nobody guards it.
	if slices.Contains(g.Rests, wire.RestGuard.Names()[0]) {
		info.changes = &holdChanges{sum: wire.Alteration{ID: g.Seq, Lapsed: true}}
	}
	if g.Life == wire.Attached.String() {
		info.life = wire.Attached
	}
	info.who.peer.PID = g.PID
	return info
}

// lose records that a hold is gone, though nobody let go of it. The owner of a detached one finds it in the list; for the session of
// an attached one see keepUntold.
func (x *restoring) lose(g audit.Record, why string) {
	x.record(g, audit.EventLost, why)
	x.logger.Warn("lock lost", "path", g.Path, "uid", g.UID, "reason", why)
	if g.Life == wire.Detached.String() {
		x.lost[g.Seq] = &lostHold{id: g.Seq, uid: g.UID, grant: g, path: g.Path, reason: "lost: " + why}
		return
	}
	x.keepUntold(&g)
}

// letGoOf frees a lock that nobody has; where that may hang, nobody waits for it.
func (x *restoring) letGoOf(f *flock.File) {
	free := func() {
		if err := f.Unlock(); err != nil {
			x.logger.Error("unlock", "path", f.Path, "error", err)
		}
		f.Close()
	}
	if f.Network {
		x.endLater(context.Background(), f.ID.Dev, free)
		return
	}
	free()
}

func modeOfRecord(g *audit.Record) flock.Mode {
	if g.Mode == wire.Shared.String() {
		return flock.Shared
	}
	return flock.Exclusive
}

func tableMode(g *audit.Record) mode {
	if g.Mode == wire.Shared.String() {
		return shared
	}
	return exclusive
}

// closeAside is closeEntry, for which nobody waits where it may hang.
func (x *restoring) closeAside(e keeper.Entry) {
	if e.Lock >= 0 && x.rules.Load().opener.Network(flock.NameOf(e.Lock)) {
		x.endLater(context.Background(), noDev, func() { closeEntry(e) })
		return
	}
	closeEntry(e)
}

// closeEntry closes what came with an entry that is not taken over.
func closeEntry(e keeper.Entry) {
	if e.Lock >= 0 {
		unix.Close(e.Lock)
	}
	closeHolder(e)
}

func closeHolder(e keeper.Entry) {
	if e.Holder >= 0 {
		unix.Close(e.Holder)
	}
}
