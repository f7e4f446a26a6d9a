package broker

import (
	"context"
	"runtime"
	"sync"
	"time"

	"locker/flock"
	"locker/wire"
)

const maxBlockers = 8

// cancel works on a Cancel: of a waiting Lock, or of the Watch.
func (b *Broker) cancel(ctx context.Context, s *session, id uint32, m *wire.Cancel) {
	b.mu.Lock()
	var evs []event
	if r := s.requests[m.Target]; r != nil {
		evs = b.stop(r, wire.CodeCanceled)
	}
	watched, ok := b.watchers[s]
	if ok = ok && watched == m.Target; ok {
		delete(b.watchers, s)
	}
	b.mu.Unlock()
	if ok {
		s.refuse(watched, wire.CodeCanceled, "", "canceled")
	}
	b.run(ctx, evs)
	s.send(id, &wire.Done{})
}

// where answers with the place of a waiting Lock, as of now.
func (b *Broker) where(s *session, id uint32, m *wire.Where) {
	b.mu.Lock()
	r := s.requests[m.Target]
	var outside *place
	if r != nil && r.isOutside {
		at := r.outside
		outside = &at
	}
	b.mu.Unlock()
	if r == nil {
		s.refuse(id, wire.CodeNotFound, "", "no request with this id is waiting")
		return
	}
	s.send(id, b.queuedFor(r, outside))
}

// queuedFor tells a waiting request its place and who is in the way; outside is the file that somebody outside the
// broker has locked, if that is what it waits for.
func (b *Broker) queuedFor(r *request, outside *place) *wire.Queued {
	q := &wire.Queued{Position: 1, Blockers: b.blockersOf(r, outside)}
	b.mu.Lock()
	if r.phase == phaseQueued {
		q.Position = uint32(b.table.position(r.claim))
	}
	b.mu.Unlock()
	return q
}

// blockersOf names who is in r's way, as far as r's peer may know it. The caller does not hold mu.
func (b *Broker) blockersOf(r *request, outside *place) []wire.Blocker {
	if outside != nil {
		return b.outsideBlockers(r, *outside)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.noise != nil {
		return b.noiseBlockers(r.noise)
	}
	return b.insideBlockers(r)
}

// insideBlockers is blockersOf for those within the table. The caller holds mu.
func (b *Broker) insideBlockers(r *request) []wire.Blocker {
	if r.claim == nil {
		return nil
	}
	holds, claims := b.table.blockers(r.claim, maxBlockers)
	if r.claim.state != claimWaiting { // it would not wait, and so stands in no queue: everybody there is in its way
		for _, k := range r.claim.keys {
			holds = append(holds, b.table.holdsOf(k)...)
			claims = append(claims, b.table.queue(k)...)
		}
	}
	var out []wire.Blocker
	for _, h := range holds {
		if len(out) < maxBlockers && (h.owner != r.claim.owner || h.ending) {
			out = append(out, b.holderBlocker(r, h))
		}
	}
	for _, c := range claims {
		if len(out) < maxBlockers && c != r.claim {
			out = append(out, b.waiterBlocker(r, c))
		}
	}
	return out
}

func (b *Broker) holderBlocker(r *request, h *hold) wire.Blocker {
	i := h.info
	if !b.maySee(&r.who.peer, h.uid, i.path) {
		return wire.Blocker{Kind: wire.Holder, Hidden: true}
	}
	return wire.Blocker{
		Kind: wire.Holder, Path: i.path, UID: h.uid, User: i.who.user, PID: i.who.peer.PID,
		Command: i.who.command, Since: i.since, Reason: i.reason,
	}
}

func (b *Broker) waiterBlocker(r *request, c *claim) wire.Blocker {
	q := c.req
	if !b.maySee(&r.who.peer, c.uid, q.msg.Paths[0]) {
		return wire.Blocker{Kind: wire.Waiter, Hidden: true}
	}
	return wire.Blocker{
		Kind: wire.Waiter, Path: q.msg.Paths[0], UID: c.uid, User: q.who.user, PID: q.who.peer.PID,
		Command: q.who.command, Since: b.now().Add(q.began - b.boot()), Reason: q.msg.Reason,
	}
}

// cycleBlockers names the holders of a deadlock's circle.
func (b *Broker) cycleBlockers(r *request) []wire.Blocker {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []wire.Blocker
	for _, l := range r.detail.cycle {
		switch {
		case len(out) == maxBlockers:
		case l.hold != nil && l.hold.owner != r.claim.owner:
			out = append(out, b.holderBlocker(r, l.hold))
		case l.claim != nil && l.claim.owner != r.claim.owner:
			out = append(out, b.waiterBlocker(r, l.claim))
		}
	}
	return out
}

// outside remembers for a moment who holds a file outside the broker: finding out reads /proc of every process, and a
// client that asks again and again must not make root do that each time.
type outside struct {
	mu    sync.Mutex // guards all below; held during a scan, so that there is one at a time
	last  time.Time
	spent time.Duration // of a processor, on scans, less what has been paid off since
	seen  map[sought]sighting
}

type sought struct {
	id   flock.ID
	idle bool
}

type sighting struct {
	at      time.Time
	holders []flock.Holder
}

const (
	sightingFresh = 20 * time.Millisecond // for who asks at the same moment; later somebody else may hold it
	scanShare     = 5                     // scans take one part in so many of a processor, in the long run
	scanBurst     = 2 * time.Second       // and so much at once
)

// outsideHolders gives the programs outside the broker that hold a lock on the file, or, if it is to be idle, have it open; nil when that is not known, or when
// finding out has cost too much lately. It may take as long as a scan or two, so only goroutines that nobody waits for, and the
// asking session's own, come here.
func (b *Broker) outsideHolders(at place) []flock.Holder {
	b.mu.Lock()
	keeperPID := selfPID()
	if b.keeping.conn != nil {
		keeperPID = int(b.keeping.conn.PID())
	}
	b.mu.Unlock()
	o := &b.outside
	o.mu.Lock()
	defer o.mu.Unlock()
	began := time.Now()
	what := sought{at.id, at.idle}
	if s, ok := o.seen[what]; ok && began.Sub(s.at) < sightingFresh {
		return s.holders
	}
	o.spent = max(0, o.spent-began.Sub(o.last)/scanShare)
	o.last = began
	if o.spent > scanBurst {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := flock.ProcessorTime()
	var holders []flock.Holder
	var err error
	if at.idle {
		holders, err = flock.Users(at.id, selfPID(), keeperPID)
	} else {
		holders, err = flock.Outside(at.id, selfPID())
	}
	if err != nil {
		b.logger.Debug("holders outside", "error", err)
	}
	o.last = time.Now()
	o.spent += flock.ProcessorTime() - used
	if o.seen == nil || len(o.seen) > 256 {
		o.seen = map[sought]sighting{}
	}
	o.seen[what] = sighting{at: o.last, holders: holders}
	return holders
}

// howOutside says of a program outside in which way it is in the way, if not by a lock, which is what everybody expects, and for whom.
func howOutside(h flock.Holder) string {
	how := ""
	if h.Engine == flock.OnlyOpen {
		how = "has it open"
	}
	if h.Client.IsValid() {
		if how == "" {
			how = "locks it"
		}
		how += " for " + h.Client.String()
	}
	return how
}

func (b *Broker) outsideBlockers(r *request, at place) []wire.Blocker {
	if !b.maySee(&r.who.peer, ^uint32(0), at.path) {
		return []wire.Blocker{{Kind: wire.Outside, Hidden: true}}
	}
	policy := b.rules.Load().policy
	var out []wire.Blocker
	for _, h := range b.outsideHolders(at) {
		if len(out) < maxBlockers {
			out = append(out, wire.Blocker{Kind: wire.Outside, Path: at.path, UID: h.UID, User: policy.Name(h.UID), PID: h.PID, Command: h.Command, Reason: howOutside(h)})
		}
	}
	if len(out) == 0 {
		out = []wire.Blocker{{Kind: wire.Outside, Hidden: true}}
	}
	return out
}

// watch has the session told of changes until it cancels.
func (b *Broker) watch(s *session, id uint32) {
	b.mu.Lock()
	_, taken := b.watchers[s]
	if !taken {
		b.watchers[s] = id
	}
	b.mu.Unlock()
	if taken {
		s.refuse(id, wire.CodeInvalid, "", "this connection watches already")
		return
	}
	s.send(id, &wire.Changed{}) // so that the client lists once after it has begun to watch
}

// changeEvery is how often at most watchers are told that something has changed.
const changeEvery = 50 * time.Millisecond

// changed has the watchers told, soon and once. The caller holds mu.
func (b *Broker) changed() {
	if len(b.watchers) == 0 || b.ticking {
		return
	}
	b.ticking = true
	b.work.Go(func() {
		<-time.After(changeEvery)
		b.mu.Lock()
		b.ticking = false
		to := make(map[*session]uint32, len(b.watchers))
		for s, id := range b.watchers {
			to[s] = id
		}
		b.mu.Unlock()
		for s, id := range to {
			s.send(id, &wire.Changed{})
		}
	})
}
