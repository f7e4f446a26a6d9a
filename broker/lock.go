package broker

import (
	"context"
	"slices"

	"locker/audit"
	"locker/authz"
	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// lock works on one Lock request until it is answered, or waits in the table, or (where opening and locking may
// hang, or somebody's file lease is in the way) until a goroutine of its own has taken it over.
func (b *Broker) lock(ctx context.Context, s *session, id uint32, m *wire.Lock) {
	if g := b.grantedBefore(ctx, s, id, m); g != nil {
		s.send(id, g)
		return
	}
	idle := m.Mode == wire.Idle
	if idle {
		m.Mode = wire.Exclusive // which it is to the table, the log and everybody else
	}
	r := &request{s: s, who: s.identify(), id: id, msg: m, idle: idle, began: b.boot(), phase: phaseOpening}
	refusal := b.decide(r)
	b.mu.Lock()
	moved := b.takePlace(r)
	if refusal == nil {
		refusal = b.admit(r)
	}
	if refusal != nil && r.place != nil {
		moved = append(moved, b.moved(b.table.abandon(r.place))...)
		b.dropPlace(r)
	}
	b.mu.Unlock()
	b.runApart(ctx, moved)
	if refusal != nil {
		b.deny(r, refusal)
		r.answer(refusal)
		return
	}
	if slices.ContainsFunc(m.Paths, r.regime.opener.Network) {
		// Opening and locking there can hang beyond SIGKILL: never in the session's own goroutine.
		got, unavailable := b.awaitSlot(s.alive, r)
		switch {
		case unavailable != nil:
			b.run(ctx, b.refuse(r, unavailable))
			return
		case !got && ctx.Err() == nil:
			b.giveUp(ctx, r, wire.CodeCanceled) // its client has died, unless something else has ended it
			return
		case !got:
			b.giveUp(ctx, r, wire.CodeShutdown)
			return
		}
		b.work.Go(func() {
			defer s.acct.leaveSlow(b)
			b.open(ctx, r)
		})
		return
	}
	b.open(ctx, r)
}

// admit enters the request into its session, unless lockerd is on its way out or the id is taken.
func (b *Broker) admit(r *request) *wire.Error {
	if b.draining {
		return &wire.Error{Code: wire.CodeShutdown, Text: "lockerd is stopping"}
	}
	if r.s.ended {
		return &wire.Error{Code: wire.CodeCanceled, Text: "connection closed"}
	}
	if r.msg.Life == wire.Attached && b.table.countHeldBy(r.owner())+len(r.msg.Paths) > maxAttached {
		return &wire.Error{Code: wire.CodeQuota, Text: "this connection holds as many locks as one may"}
	}
	if _, taken := r.s.requests[r.id]; taken {
		return &wire.Error{Code: wire.CodeInvalid, Text: "this request id is still in use"}
	}
	r.s.requests[r.id] = r
	return nil
}

// decide asks the policy about every path of the request, before the file system is touched.
func (b *Broker) decide(r *request) *wire.Error {
	action := authz.ActLock
	if r.msg.Mode == wire.Shared {
		action = authz.ActLockShared
	}
	r.regime = b.rules.Load()
	r.decisions = r.decisions[:0]
	for _, path := range r.msg.Paths {
		if err := authz.CheckPath(path); err != nil {
			return &wire.Error{Code: wire.CodeInvalid, Path: path, Text: err.Error()}
		}
		d := r.regime.policy.Decide(&r.who.peer, action, path)
		r.decisions = append(r.decisions, d)
		if !d.Allowed {
			r.refusedBy = d
			return denied(path)
		}
	}
	return nil
}

// open opens the files and enters the claim into the table.
func (b *Broker) open(ctx context.Context, r *request) {
	var err error
	if r.files, r.slot, err = b.openFiles(ctx, r); err != nil {
		b.openFailed(ctx, r, err)
		return
	}
	b.runFor(ctx, r, b.enter(ctx, r))
}

// enter puts the claim into the table and answers what can be answered at once.
func (b *Broker) enter(ctx context.Context, r *request) []event {
	keeper.Step("grant.opened")
	m, _ := modeOf(r.msg.Mode)
	c := &claim{owner: r.owner(), uid: r.who.peer.UID, mode: m, keys: r.keys(), req: r}
	b.mu.Lock()
	r.asksIdle = slices.ContainsFunc(r.files, (*flock.File).AsksIdle)
	if r.ended != 0 {
		b.mu.Unlock()
		b.giveUp(ctx, r, wire.CodeCanceled)
		return nil
	}
	var moved []event
	if r.place != nil && r.place.inTable() {
		if len(c.keys) <= len(r.place.keys) {
			defer b.mu.Unlock()
			return b.enterAgain(r)
		}
		moved = b.moved(b.table.abandon(r.place)) // a place for some of the files is none for all
	}
	r.place = nil
	r.claim = c
	var v verdict
	var d detail
	switch {
	case !b.reserve(r):
		v = quotaRule
	case r.msg.Wait == wire.NonBlock:
		v, d = b.table.tryAdd(r.claim)
	default:
		v, d = b.table.add(r.claim)
	}
	b.noteShifted()
	evs := append(moved, b.judge(r, v, d)...)
	b.mu.Unlock()
	return evs
}

// owner is who the claim's holds will belong to.
func (r *request) owner() owner {
	if r.msg.Life == wire.Attached {
		return owner{uid: r.who.peer.UID, session: r.s.id}
	}
	return owner{uid: r.who.peer.UID, tag: r.msg.Tag}
}

// recordWait writes the wait into the log, once for each request.
func (b *Broker) recordWait(r *request, text string) {
	if r.waited {
		return
	}
	r.waited = true
	// One record for each file, and a bound on how many: 64 names of one file, asked for and canceled again and again, must
	// not fill the disk. What a grant waited stands in its own record.
	if r.waits = b.waits.allow(r.who, b.boot()); !r.waits {
		b.poke()
		return
	}
	for _, path := range r.names() {
		rec := b.recordOf(r, audit.EventWait, path)
		rec.Text = text
		b.append(&rec)
	}
}

// names gives the path of each file once; of all that were asked for, while none is open.
func (r *request) names() []string {
	if r.claim == nil {
		return slices.Compact(slices.Sorted(slices.Values(r.msg.Paths)))
	}
	names := make([]string, len(r.claim.keys))
	for i := range names {
		names[i] = r.pathOf(i)
	}
	return names
}
