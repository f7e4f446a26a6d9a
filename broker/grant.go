package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"locker/audit"
	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// grant turns a claim into holds: the kernel's locks are in hand and every name still leads to its file.
//
// The order stands so that a crash at any point loses nothing that was answered, and answers nothing that is lost:
//
//	number   the record is in the log's memory, since its number is the hold's id; nothing of it need be in the file yet
//	put      the keeper has a copy, or one is on its way in its queue, which counts as well: from here on our death
//	         frees nothing. Before the table, so that nobody can end the hold, and close its descriptor, before it is sent
//	enter    the table; numbers and table together under mu, since the log's order is the table's order
//	write    the record is in the file, or on disk. A copy without a record was never answered: the next broker lets go of
//	         it; a record without a copy was not either, if the keeper was there all the time
//	answer   last: before it nobody has been promised anything, so every failure can be undone
func (b *Broker) grant(ctx context.Context, r *request) []event {
	b.mu.Lock()
	if b.rules.Load() != r.regime { // a reload has passed since we looked: no grant may follow the policy that forbids it
		b.mu.Unlock()
		return b.lookAgain(ctx, r)
	}
	if b.stopped && r.ended == 0 {
		r.ended = wire.CodeShutdown
	}
	if r.ended != 0 {
		b.mu.Unlock()
		r.unlockFiles(len(r.files))
		return b.ended(r)
	}
	if v := r.overtaken; v != 0 {
		r.overtaken = 0
		b.mu.Unlock()
		r.unlockFiles(len(r.files))
		return []event{{c: r.claim, v: v, d: r.detail}}
	}
	if b.keeping.wanted && !b.keeping.ready {
		b.mu.Unlock()
		return b.pauseForKeeper(ctx, r)
	}
	if !b.stillNeeds(r) {
		b.mu.Unlock()
		r.unlockFiles(len(r.files))
		return []event{{c: r.claim, v: pending}}
	}
	if b.wantsWard(r) {
		b.mu.Unlock()
		return b.guardApart(ctx, r)
	}
	now, boot := b.now(), b.boot()
	holds, evs, err := b.enterHolds(r, now, boot)
	if err != nil {
		b.mu.Unlock()
		if errors.Is(err, errKeeperGone) {
			return append(evs, b.pauseForKeeper(ctx, r)...)
		}
		r.unlockFiles(len(r.files))
		return append(evs, b.refuse(r, b.cannotRecord(r, err))...)
	}
	answer := b.grantedFor(r)
	last := holds[len(holds)-1].id
	evs = append(evs, b.leave(r)...)
	b.mu.Unlock()

	b.watchBundles(holds) // before the answer: what is deleted from then on counts
	if err = b.log.Commit(last, r.msg.Life == wire.Detached); err != nil {
		return append(evs, b.undo(r, holds, err)...)
	}
	keeper.Step("grant.written")
	r.closeFiles() // of files that the owner held already; those of the holds are theirs now
	r.answer(answer)
	keeper.Step("grant.answered")
	return evs
}

// stillNeeds reports whether the owner holds the same of the claim's files as when the kernel was asked: he may have
// released one meanwhile, which then is locked by nobody. The caller holds mu.
func (b *Broker) stillNeeds(r *request) bool {
	need := b.table.need(r.claim)
	for i, f := range r.files {
		if r.covered[i] == slices.Contains(need, keyOf(f.ID)) {
			return false
		}
	}
	return true
}

// enterHolds numbers the grants, has them kept and enters the holds. The caller holds mu. On error nothing has changed, except
// that the log may say that a grant was given and taken back.
func (b *Broker) enterHolds(r *request, now time.Time, boot time.Duration) ([]*hold, []event, error) {
	ids := make([]uint64, 0, len(r.files))
	infos := make([]*holdInfo, 0, len(r.files))
	var unguarded []error // for each of infos, or none
	for i, f := range r.files {
		if r.covered[i] {
			continue
		}
		info := b.infoOf(r, i, now, boot)
		rec := b.recordOf(r, audit.EventGrant, info.path)
		rec.Target, rec.Dev, rec.Ino = info.target, f.ID.Dev, f.ID.Ino
		rec.Rests, rec.Rule, rec.Expires = restNames[info.rests], info.rule, info.expires
		rec.Waited = boot - r.began
		if info.resumes { // of others a request that is sent again is another one
			rec.Session, rec.Request = r.s.id, r.id
		}
		seq, err := b.log.Append(&rec)
		if err == nil {
			ids, infos = append(ids, seq), append(infos, info)
			if r.unguarded != nil {
				unguarded = append(unguarded, r.unguarded[i])
			}
			keeper.Step("grant.numbered")
			err = b.keepHold(seq, r, info, keyOf(f.ID))
			keeper.Step("grant.put")
		}
		if err != nil {
			for j, id := range ids { // a set is granted all or none
				b.unkeep(id)
				back := audit.Record{Event: audit.EventRelease, ID: id, Path: infos[j].path, Text: "not granted: " + err.Error()}
				b.append(&back)
			}
			return nil, nil, err
		}
	}
	holds, evs := b.table.grant(r.claim, ids)
	evs = b.moved(evs)
	for i, h := range holds {
		b.adopt(h, infos[i])
		if unguarded != nil && unguarded[i] != nil {
			b.recordUnguarded(h.id, infos[i].path, unguarded[i])
		}
	}
	for i := range r.files {
		if !r.covered[i] {
			r.files[i] = nil // the hold's now
		}
	}
	r.wards, r.unguarded = nil, nil
	keeper.Step("grant.entered")
	return holds, evs, nil
}

// restNames has the words of each set, so that a grant need not allocate them.
var restNames = func() (names [wire.RestOFD | wire.RestFlock | wire.RestIdle | wire.RestGuard + 1][]string) {
	for set := range names {
		names[set] = wire.Rest(set).Names()
	}
	return names
}()

// infoOf describes the hold that file i of r becomes.
func (b *Broker) infoOf(r *request, i int, now time.Time, boot time.Duration) *holdInfo {
	f, d := r.files[i], r.decisionOf(i)
	h := &holdInfo{
		file: f, who: r.who, path: r.pathOf(i), rests: restsOf(f), life: r.msg.Life, tag: r.msg.Tag,
		reason: r.msg.Reason, rule: d.Rule, grace: r.msg.Grace, since: now, began: boot,
		by: r.s.id, request: r.id, resumes: r.s.resumes(),
	}
	if f.Target != f.Path {
		h.target = f.Target
	}
	if h.ward = r.takeWard(i); h.ward != nil {
		h.rests |= wire.RestGuard
	}
	if r.msg.Life == wire.Attached {
		h.session = r.s
	}
	if lease := shorter(r.msg.TTL, d.MaxHold); lease > 0 {
		h.expires = now.Add(lease)
		h.due.at = boot + lease
	}
	return h
}

// shorter gives the shorter of two durations of which 0 means no limit.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// restsOf gives what the lock of f rests on.
func restsOf(f *flock.File) wire.Rest {
	var r wire.Rest
	if f.Engines&flock.OFD != 0 {
		r |= wire.RestOFD
	}
	if f.Engines&flock.BSD != 0 {
		r |= wire.RestFlock
	}
	if f.Idle {
		r |= wire.RestIdle
	}
	return r
}

// adopt enters a hold into the broker's own books. The caller holds mu.
func (b *Broker) adopt(h *hold, info *holdInfo) {
	h.info = info
	if info.ward != nil {
		info.ward.hold = h.id
	}
	b.changes.await(h)
	b.byPath[info.path] = append(b.byPath[info.path], h)
	b.perRule[ruleUse{h.uid, info.rule}]++
	if info.due.at > 0 {
		b.arm(&info.due, info.due.at, deadlineLease, nil, h)
	}
}

// reserve counts the claim's files under the rules that limit how many one uid holds, unless that is too many. They are
// counted from here on, not from the grant: else claims that wait together could all pass. The caller holds mu.
func (b *Broker) reserve(r *request) bool { return b.reserveFor(r, r.claim.keys) }

// reserveFor is reserve for a claim that is about to be for these keys.
func (b *Broker) reserveFor(r *request, keys []key) bool {
	b.unreserve(r) // it may have been in the table before
	asked := claim{owner: r.claim.owner, keys: keys}
	for i := range r.files {
		d := r.decisionOf(i)
		if d.Holds == 0 || b.table.covering(&asked, i) != nil {
			continue
		}
		use := ruleUse{r.who.peer.UID, d.Rule}
		b.perRule[use]++
		r.reserved = append(r.reserved, use)
		if b.perRule[use] > d.Holds {
			b.unreserve(r)
			return false
		}
	}
	return true
}

// unreserve takes back what reserve has counted. The caller holds mu.
func (b *Broker) unreserve(r *request) {
	for _, use := range r.reserved {
		b.unuse(use)
	}
	r.reserved = nil
}

// unuse takes one from what a uid uses under a rule. The caller holds mu.
func (b *Broker) unuse(use ruleUse) {
	if b.perRule[use]--; b.perRule[use] <= 0 {
		delete(b.perRule, use)
	}
}

// grantedFor is the answer to a claim whose holds have just been entered. The caller holds mu.
func (b *Broker) grantedFor(r *request) *wire.Granted {
	g := &wire.Granted{Grants: make([]wire.Grant, len(r.msg.Paths))}
	for i := range r.msg.Paths {
		k := r.slot[i]
		if h := b.table.covering(r.claim, k); h != nil {
			g.Grants[i] = wire.Grant{ID: h.id, Already: r.covered[k] && !h.info.askedBy(r), Rests: h.info.rests, Expires: h.info.expires}
		}
	}
	return g
}

// askedBy reports whether the hold was granted to this very request, before lockerd was started again and the answer got lost.
func (i *holdInfo) askedBy(r *request) bool {
	return r.s.resumed && i.by == r.s.id && i.request == r.id
}

// undo takes back holds whose grant could not be recorded, and refuses their request.
func (b *Broker) undo(r *request, holds []*hold, err error) []event {
	b.mu.Lock()
	taken := b.beginEnd(holds)
	b.mu.Unlock()
	evs, _ := b.letGo(taken, func(h *hold, rec *audit.Record) {
		rec.Event, rec.Text = audit.EventRelease, "not granted: "+err.Error()
	})
	r.closeFiles()
	r.answer(b.cannotRecord(r, err))
	return evs
}
