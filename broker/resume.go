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
	}
	answer := &wire.Resumed{}
	var ending []*hold
	var seq uint64
	for _, h := range b.table.heldBy(owner{uid: s.peer.UID, session: s.id}) {
		h.info.session, h.info.who = s, w
		if h.info.releasing || h.info.untold {
			continue
		}
		answer.IDs = append(answer.IDs, h.id)
		if h.ending {
			ending = append(ending, h)
		}
		rec := audit.Record{Event: audit.EventResume, ID: h.id}
		w.sign(&rec)
		seq = max(seq, b.append(&rec))
	}
	slices.Sort(answer.IDs)
	err := b.deaths.rename(s.peer.PidFD, s.id) // asks again: a death that was told under the other name is told anew
	b.mu.Unlock()
	b.deaths.remove(old.peer.PidFD)
	if err != nil {
		b.logger.Error("watch a process", "pid", s.peer.PID, "error", err)
	}
	b.commit(seq)
	keeper.Step("resume.taken")
	s.send(id, answer)
	for _, h := range ending {
		b.tellAgain(s, h)
	}
}

// tellAgain tells a client that has come back of a hold that was broken, or has expired, meanwhile.
func (b *Broker) tellAgain(s *session, h *hold) {
	b.mu.Lock()
	rest := max(0, h.info.due.at-b.boot())
	b.mu.Unlock()
	s.send(0, &wire.Lost{ID: h.id, Cause: wire.Broken, Path: h.info.path, Grace: min(rest, h.info.grace)})
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
	if !s.away || s.ended {
		b.mu.Unlock()
		return
	}
	b.deadlines.remove(&s.due)
	if !s.dead {
		s.killed = why
	}
	b.mu.Unlock()
	s.end(ctx)
	b.deaths.remove(s.peer.PidFD)
}

// grantedBefore answers a Lock that is sent again because lockerd was started anew before its answer had arrived: if it was granted
// then, it has what it asked for. All or nothing: a set that was not granted whole was not granted.
func (b *Broker) grantedBefore(s *session, id uint32, m *wire.Lock) *wire.Granted {
	if !s.resumed {
		return nil
	}
	o := owner{uid: s.peer.UID, session: s.id}
	if m.Life == wire.Detached {
		o = owner{uid: s.peer.UID, tag: m.Tag}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	g := &wire.Granted{}
	for _, path := range m.Paths {
		i := slices.IndexFunc(b.byPath[path], func(h *hold) bool {
			return h.owner == o && h.info.by == s.id && h.info.request == id && !h.info.releasing
		})
		if i < 0 {
			return nil
		}
		h := b.byPath[path][i]
		g.Grants = append(g.Grants, wire.Grant{ID: h.id, Rests: h.info.rests, Expires: h.info.expires})
	}
	return g
}

// takePlace has a Lock that is sent again go on from the place in the queue that its session has kept for it; a Lock that only has
// its number ends that place. The caller holds mu.
func (b *Broker) takePlace(r *request) []event {
	absent := r.s.requests[r.id]
	if absent == nil || absent.phase != phaseAbsent {
		return nil
	}
	m, _ := modeOf(r.msg.Mode)
	if c := absent.claim; c.owner != r.owner() || c.mode != m {
		return b.leave(absent)
	}
	delete(r.s.requests, r.id)
	r.place, r.began, r.until = absent.claim, absent.began, absent.until
	r.places, r.placed, r.placedWith = absent.places, absent.placed, absent.placedWith
	absent.places, absent.placed = nil, nil
	return nil
}

// enterAgain is enter for a claim that has its place already. The caller holds mu.
func (b *Broker) enterAgain(r *request) []event {
	c := r.place
	r.place, r.claim, c.req = nil, c, r
	if !b.reserve(r) {
		return append(b.moved(b.table.abandon(c)), event{c: c, v: quotaRule})
	}
	keys := r.keys()
	if slices.Equal(c.keys, keys) {
		v := queued
		if c.state == claimPending {
			v = pending
		}
		return b.judge(r, v, detail{})
	}
	v, d, evs := b.table.rekey(c, keys)
	return append(b.moved(evs), b.judge(r, v, d)...)
}
