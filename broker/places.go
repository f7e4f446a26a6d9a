package broker

import (
	"slices"

	"golang.org/x/sys/unix"

	"locker/authz"
	"locker/keeper"
	"locker/wire"
)

// restorePlaces enters the claims that waited, each at its old place, for their clients to come back to.
func (x *restoring) restorePlaces(entries []keeper.Entry) {
	type name struct {
		session uint64
		request uint32
	}
	waits := map[name]*request{}
	var inOrder []*request
	for _, e := range entries {
		x.keeping.places = max(x.keeping.places, e.ID&^uint64(waitBit))
		k, err := parseBlob(e.Blob)
		if err != nil {
			x.logger.Warn("a place in a queue is not understood, and given up", "error", err)
		}
		kept := err == nil && k.kind == keptWait && k.boot == x.bootID
		if kept && e.Holder < 0 { // before Linux 6.5 a peer has no pidfd
			e.Holder = x.processOf(k.pid, k.start)
		}
		if x.failed != nil {
			closeEntry(e)
			continue
		}
		if !kept || e.Holder < 0 || dead(e.Holder) {
			closeEntry(e)
			x.keeping.conn.Drop(e.ID)
			continue
		}
		at := name{k.session, k.request}
		r := waits[at]
		if r == nil {
			r = x.absent(k, e.Holder)
			waits[at] = r
			inOrder = append(inOrder, r)
		} else {
			unix.Close(e.Holder)
		}
		r.places = append(r.places, keptPlace{e.ID, key{k.dev, k.ino}}) // two for one file if the last broker died while it put others
		r.addAbsent(key{k.dev, k.ino}, k.path)
	}
	if x.failed != nil {
		return
	}
	slices.SortFunc(inOrder, func(a, b *request) int { return order(a.claim, b.claim) })
	for _, r := range inOrder {
		if x.table.coveredWhole(r.claim) { // it was granted, and died before it left the queue
			x.dropPlaces(r.places)
			continue
		}
		r.placed, r.placedWith = slices.Clone(r.claim.keys), x.keeping.conn
		r.s.requests[r.id] = r
		x.table.restoreClaim(r.claim, r.claim.round, r.claim.arrival)
	}
	x.moved(x.table.settle()) // all of them are absent: nothing is to be done but to let the first be first
}

// absent makes the request that keeps a place until its client has come back.
func (x *restoring) absent(k *blob, pidfd int) *request {
	w := &who{peer: authz.PeerFor(k.uid, k.gid, nil), user: x.rules.Load().policy.Name(k.uid), start: k.start, restored: true}
	w.peer.PID, w.peer.PidFD = k.pid, pidfd
	w.command = readCommand(k.pid)
	s := x.addAway(k.session, w, resumeVersion)
	r := &request{
		s: s, who: s.who, id: k.request, began: k.began, until: k.due, phase: phaseAbsent,
		msg: &wire.Lock{Mode: wireMode(k.mode), Wait: wire.Block, Life: k.life, Tag: k.tag},
	}
	r.claim = &claim{owner: r.owner(), uid: k.uid, mode: k.mode, req: r, round: k.round, arrival: k.arrival}
	return r
}

// addAbsent adds a file to those that an absent request waits for, in their order.
func (r *request) addAbsent(k key, path string) {
	i, found := slices.BinarySearchFunc(r.claim.keys, k, compareKeys)
	if found {
		return
	}
	r.claim.keys = slices.Insert(r.claim.keys, i, k)
	r.msg.Paths = slices.Insert(r.msg.Paths, i, path)
	r.slot = append(r.slot, len(r.slot))
}
