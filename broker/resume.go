package broker

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/keeper"
	"locker/wire"
)

// A session outlives the broker: what it holds and waits for is kept, and its client, whose connection has ended, comes back and
// names it. Until then the session is away. Its id is no secret; that it is the same process is the kernel's word.

// defaultPatience is how long after a start a client may take to come back.
const defaultPatience = 30 * time.Second

// maxAttached bounds the attached holds of one session: Resumed names them in one frame.
const maxAttached = wire.MaxIDs

// newSessionID gives an id that no session has, over restarts too: at random, and below 2^53, which is where JSON's readers stop
// to count. The caller holds mu.
func (b *Broker) newSessionID() uint64 {
	for {
		id := rand.Uint64() >> 11
		if id != 0 && b.sessions[id] == nil {
			return id
		}
	}
}

// addAway makes the session of a process that is to come back, or gives the one that there is. It owns pidfd. The caller holds mu.
func (b *Broker) addAway(id uint64, w *who, version uint8) *session {
	s := b.sessions[id]
	if s != nil {
		if w.peer.PidFD >= 0 && w.peer.PidFD != s.peer.PidFD {
			unix.Close(w.peer.PidFD)
		}
		w.peer.PidFD = s.peer.PidFD
		return s
	}
	s = &session{b: b, id: id, peer: w.peer, who: w, version: version, away: true, greeted: true, requests: map[uint32]*request{}}
	b.sessions[id] = s
	return s
}

// await starts the clock of a session that is away, and watches its process. The caller holds mu.
func (b *Broker) await(s *session) {
	patience := b.patience
	if !s.resumes() {
		// Its client cannot come back: it learns by the end of its connection that the lock is lost. It has the grace that it asked for.
		patience = 0
		for _, h := range b.table.heldBy(owner{uid: s.peer.UID, session: s.id}) {
			patience = max(patience, h.info.grace)
		}
	}
	if keeper.Seeded("no-grace") {
		patience = 0
	}
	b.arm(&s.due, b.boot()+patience, deadlineAway, nil, nil)
	s.due.s = s
	if err := b.deaths.add(s.peer.PidFD, s.id); err != nil {
		b.logger.Error("watch a process", "pid", s.peer.PID, "error", err) // the clock is left
	}
}

// resume has a connection go on as the session that its process had before lockerd was started again.
func (b *Broker) resume(s *session, id uint32, m *wire.Resume) {
	if s.asked || s.resumed {
		s.refuse(id, wire.CodeInvalid, "", "a session is gone on from before anything else is asked for")
		return
	}
	w := s.identify()
	b.mu.Lock()
	old := b.sessions[m.Session]
	// One answer for all that can be wrong: who asks for what is not his learns nothing.
	if old == nil || !old.away || old.ended || !sameProcess(&old.peer, &s.peer) {
		b.mu.Unlock()
		s.refuse(id, wire.CodeLost, "", "there is no such session to go on from")
		return
	}
	b.deadlines.remove(&old.due)
	old.away, old.ended = false, true
	delete(b.sessions, s.id)
	s.id, s.requests, s.resumed = old.id, old.requests, true
	b.sessions[s.id] = s
	for _, r := range s.requests {
		r.s, r.who = s, w
		// The session's clock is stopped, so what it does not ask for again needs one: else everybody behind it waits for ever.
		b.arm(&r.due, b.boot()+b.patience, deadlineWait, r, nil)
	}
	answer := &wire.Resumed{}
	var ending []*wire.Lost
	var altered []wire.Alteration
	var seq uint64
	for _, h := range b.table.heldBy(owner{uid: s.peer.UID, session: s.id}) {
		h.info.session, h.info.who = s, w
		if h.info.releasing || h.info.untold {
			continue
		}
		answer.IDs = append(answer.IDs, h.id)
		if h.ending {
			ending = append(ending, b.lossSince(h))
		}
		if a, ok := h.notable(); ok && (a.Count > 0 || a.Missed || a.Lapsed) {
			altered = append(altered, a)
		}
		rec := audit.Record{Event: audit.EventResume, ID: h.id}
		w.sign(&rec)
		seq = max(seq, b.append(&rec))
	}
	slices.Sort(answer.IDs)
	// Still under mu, which an outbox never keeps waiting: from here on others tell this session what it loses, and its client
	// takes the first frame for the answer. The records may come later: they promise nothing, and whatever it asks for comes
	// behind them in the log.
	keeper.Step("resume.taken")
	s.send(id, answer)
	for _, lost := range ending {
		s.send(0, lost)
	}
	s.sendAltered(altered)
	err := b.deaths.rename(s.peer.PidFD, s.id) // asks again: a death that was told under the other name is told anew
	b.mu.Unlock()
	b.deaths.remove(old.peer.PidFD)
	if err != nil {
		b.logger.Error("watch a process", "pid", s.peer.PID, "error", err)
	}
	b.commit(seq)
}

// lossSince is what a client that has come back is told of a hold that was broken, or has expired, meanwhile. The caller holds mu.
func (b *Broker) lossSince(h *hold) *wire.Lost {
	rest := max(0, h.info.due.at-b.boot())
	return &wire.Lost{ID: h.id, Cause: h.endedBy(), Path: h.info.path, Grace: min(rest, h.info.grace)}
}

// endedBy says why a hold is in its grace, which after a restart is known by when that began: no hold is broken after its lease is
// over.
func (h *hold) endedBy() wire.LossCause {
	i := h.info
	if !i.expires.IsZero() && i.due.at-i.grace >= i.began+i.expires.Sub(i.since) {
		return wire.Expired
	}
	return wire.Broken
}

// sameProcess reports whether two peers are one process. Since Linux 6.9 a pidfd's inode is one process's, as long as the machine is
// up; before, the pid and the time when it was started have to do, and before 6.5 the new one has no pidfd. The uid must be the same too: a process may have another by now.
func sameProcess(old, now *authz.Peer) bool {
	if !old.Known() || !now.Known() || old.UID != now.UID || old.PidFD < 0 {
		return false
	}
	a, aok := pidInode(old.PidFD)
	b, bok := pidInode(now.PidFD)
	if aok && bok {
		return a == b
	}
	// old.PidFD is open, so as long as its process is not dead the pid is nobody else's.
	return old.PID == now.PID && !dead(old.PidFD)
}

const pidfsMagic = 0x50494446 // PIDFS_MAGIC of linux/magic.h

// pidInode gives what tells a process from all others; false where the kernel has no such number.
func pidInode(pidfd int) (uint64, bool) {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(pidfd, &fs) != nil || fs.Type != pidfsMagic || unix.Fstat(pidfd, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}

// endAway ends a session whose client has not come back, or has died.
func (b *Broker) endAway(ctx context.Context, s *session, why string) {
	b.mu.Lock()
	var evs []event
	var ending []*hold
	first := false
	if s.away { // or its client is back
		b.deadlines.remove(&s.due)
		// Marked in one go with the question: its death, its clock, a stop and its client's return may all come at once, and the
		// pidfd is closed by who was first alone. Closed again, its number would by then be somebody else's.
		if evs, ending, first = s.beginEnd(); first && !s.dead {
			s.killed = why
		}
	}
	b.mu.Unlock()
	if first {
		s.finishEnd(ctx, evs, ending)
		b.deaths.remove(s.peer.PidFD) // only now, see part
	}
}

// takePlace has a Lock that is sent again go on from the place in the queue that its session has kept for it; a Lock that only has
// its number ends that place. The caller holds mu.
func (b *Broker) takePlace(r *request) []event {
	absent := r.s.requests[r.id]
	if absent == nil || absent.phase != phaseAbsent {
		return nil
	}
	m, _ := modeOf(r.msg.Mode)
	others := slices.ContainsFunc(absent.msg.Paths, func(p string) bool { return p != "" && !slices.Contains(r.msg.Paths, p) })
	if c := absent.claim; c.owner != r.owner() || c.mode != m || others {
		return b.leave(absent)
	}
	delete(r.s.requests, r.id)
	b.deadlines.remove(&absent.due)
	r.place, r.began, r.until = absent.claim, absent.began, absent.until
	r.places, r.placed, r.placedWith = absent.places, absent.placed, absent.placedWith
	absent.places, absent.placed = nil, nil
	return nil
}

// beingTaken reports whether r has kept a place for a Lock that has come again, and is being worked on: its places are that one's now.
// The caller holds mu.
func (r *request) beingTaken() bool { return r.phase == phaseAbsent && r.s.requests[r.id] != r }

// enterAgain is enter for a claim that has its place already. The caller holds mu.
func (b *Broker) enterAgain(r *request) []event {
	c := r.place
	r.place, r.claim, c.req = nil, c, r
	keys := r.keys()
	if !b.reserveFor(r, keys) {
		return append(b.moved(b.table.abandon(c)), event{c: c, v: quotaRule})
	}
	if slices.Equal(c.keys, keys) {
		v := queued
		if c.state == claimPending {
			v = pending
		}
		b.tellPlaces(r) // its line may have been counted on while it was being opened
		return b.judge(r, v, detail{})
	}
	v, d, evs := b.table.rekey(c, keys)
	return append(b.moved(evs), b.judge(r, v, d)...)
}
