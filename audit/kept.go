package audit

import (
	"math"
	"slices"
	"time"
)

// kept is a hold as State keeps it: 224 bytes, where a Record has about 460. It never changes.
type kept struct {
	id, start, dev, ino, session uint64
	time, expires                int64 // Unix nanoseconds, noTime
	boot, grace, waited          int64 // nanoseconds
	user, command, path, target  string
	tag, reason, rule            string
	kind                         *kind
	uid, gid, login, request     uint32
	pid                          int32
	size                         uint16 // what its held record takes, about, in units of sizeUnit
	state                        uint8
}

const (
	stateEnding = 1 << iota
	stateLost
	statePeer
	stateLogin
)

// kind is what few kinds of holds have in common.
type kind struct {
	mode, life string
	rests      []string
}

// heldExtra is how much longer than the line of its grant the held record of a hold can be: a longer seq,
// code "ending", a longer synced.
const heldExtra = 96 // bytes

// sizeUnit makes 16 bits enough for the longest line. With 32 of them a kept would take 240 bytes.
const sizeUnit = 4 // bytes

func sizeOf(line int) uint16 {
	return uint16(min((line+heldExtra+sizeUnit-1)/sizeUnit, math.MaxUint16))
}

// keep makes the hold that a grant, held or resume record describes.
func (s *State) keep(r *Record, size int) *kept {
	k := &kept{
		id: r.ID, start: r.Start, dev: r.Dev, ino: r.Ino, session: r.Session,
		time: nanos(r.Time), expires: nanos(r.Expires),
		boot: int64(r.Boot), grace: int64(r.Grace), waited: int64(r.Waited),
		user: r.User, command: r.Command, path: r.Path, target: r.Target,
		tag: r.Tag, reason: r.Reason, rule: r.Rule,
		kind: s.kindOf(r),
		uid:  r.UID, gid: r.GID, login: r.LoginUID, request: r.Request, pid: r.PID,
		size: sizeOf(size),
	}
	if r.Peer {
		k.state |= statePeer
	}
	if r.HasLogin {
		k.state |= stateLogin
	}
	if r.Event == EventHeld {
		switch r.Code {
		case codeEnding:
			k.state |= stateEnding
		case codeLost:
			k.state |= stateLost
		}
	}
	return k
}

const (
	codeEnding = "ending"
	codeLost   = "lost"
)

func (s *State) kindOf(r *Record) *kind {
	for _, k := range s.kinds {
		if k.mode == r.Mode && k.life == r.Life && slices.Equal(k.rests, r.Rests) {
			return k
		}
	}
	k := &kind{mode: r.Mode, life: r.Life, rests: slices.Clone(r.Rests)}
	if len(s.kinds) < 64 { // a log that is not ours may name thousands
		s.kinds = append(s.kinds, k)
	}
	return k
}

// record fills r with the grant.
func (k *kept) record(r *Record) {
	*r = Record{
		Seq: k.id, Time: timeOf(k.time), Boot: time.Duration(k.boot), Event: EventGrant, ID: k.id,
		Peer: k.state&statePeer != 0, UID: k.uid, GID: k.gid, User: k.user,
		HasLogin: k.state&stateLogin != 0, LoginUID: k.login,
		PID: k.pid, Start: k.start, Command: k.command,
		Path: k.path, Target: k.target, Dev: k.dev, Ino: k.ino,
		Mode: k.kind.mode, Rests: k.kind.rests, Life: k.kind.life,
		Session: k.session, Tag: k.tag, Reason: k.reason, Rule: k.rule,
		Grace: time.Duration(k.grace), Waited: time.Duration(k.waited), Expires: timeOf(k.expires),
		Request: k.request,
	}
}

// held fills r with the record that a checkpoint has for the hold; Seq is still to be set.
func (s *State) held(k *kept, r *Record) {
	k.record(r)
	if a := s.altered[k.id]; a != nil {
		r.Count, r.Text, r.Missed, r.Altered = a.Count, a.Last, a.Missed, a.At
	}
	r.Seq, r.Event = 0, EventHeld
	switch {
	case k.state&stateLost != 0:
		r.Code = codeLost
	case k.state&stateEnding != 0:
		r.Code = codeEnding
	}
}

func (s *State) hold(k *kept) Hold {
	var h Hold
	k.record(&h.Grant)
	h.Ending = k.state&stateEnding != 0
	if a := s.altered[k.id]; a != nil {
		h.Alteration = *a
	}
	return h
}

// equal compares all but the size, which is an estimate, and, in another boot, the boot clock.
func (k *kept) equal(o *kept, anotherBoot bool) bool {
	if k == o {
		return true
	}
	a, b := *k, *o
	if a.kind.mode != b.kind.mode || a.kind.life != b.kind.life || !slices.Equal(a.kind.rests, b.kind.rests) {
		return false
	}
	a.kind, b.kind = nil, nil
	a.size, b.size = 0, 0
	if anotherBoot {
		a.boot, b.boot = 0, 0
	}
	return a == b
}
