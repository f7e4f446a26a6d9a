package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"locker/authz"
	"locker/flock"
	"locker/guard"
	"locker/keeper"
	"locker/wire"
)

// phase says who may touch a claim: see the package comment.
type phase uint8

const (
	phaseOpening phase = iota + 1
	phaseQueued
	phaseClaiming
	phaseDone
	phaseAbsent // of an earlier run: it keeps its place until its client comes back and sends it again
)

// request is one Lock of one session, from its frame to its answer.
type request struct {
	s     *session
	who   *who
	id    uint32 // request id on the wire
	msg   *wire.Lock
	idle  bool          // nobody else may have the files open: asked for, not what a bundle implies
	began time.Duration // boot clock

	// Set while opening, and again by whoever works on the claim when a file was replaced: slot together with the claim's
	// keys then, and under Broker.mu, since lists read both.
	regime    *regime // that decided
	decisions []authz.Decision
	refusedBy authz.Decision // the decision that refused, if the policy did
	files     []*flock.File  // one per distinct file, in (dev, ino) order
	slot      []int          // index into files, for each of msg.Paths
	covered   []bool         // for each of files: its owner holds it already
	claim     *claim
	detail    detail             // of the table's last verdict
	replaced  int                // how often a file was replaced under the claim
	disturbed int                // how often a bundle was opened before the guard was told
	ahead     map[flock.ID]ahead // of its bundles that were written in the future
	heard     bool               // its bundles were quiet just now, when they were not locked, or not yet guarded

	// What the guard was told for the claim, while its files are locked: see guardFiles.
	wards      []*ward     // for each of files; nil where nothing is guarded
	unguarded  []error     // for each of files: why the guard could not be told of it
	guardAsked bool        // it was told, or there was none:
	guardedBy  *guard.Conn // which one; nil: none
	guardsLost int         // how many have ended since they were told

	parking   sync.Mutex // held while files are parked: see park
	answering sync.Mutex // guards answered, and orders Queued before the final answer
	answered  bool

	// Guarded by Broker.mu.
	phase     phase
	asksIdle  bool               // one of its files is to be idle
	ended     wire.Code          // not 0: the worker shall give up with this code
	broken    bool               // because somebody broke its wait
	cancel    context.CancelFunc // of the worker, when it waits
	waited    bool               // it has begun to wait
	waits     bool               // and that was recorded
	endSeq    uint64             // number of the record of its end, to be written before the answer
	due       deadline           // when the wait times out; zero: never. Of one that is absent: when its place ends
	overtaken verdict            // not 0: the table has ended the claim while a goroutine was at work on it
	capped    bool               // the policy's max_wait is shorter than what was asked

	awaitsGuard bool // it has its files, and waits for the guard that has just gone; or did when it was ended

	isOutside    bool          // it waits for a holder outside the broker, of the file outside
	outside      place         //
	places       []keptPlace   // the keeper's ids of its place in the queues of these files:
	placed       []key         // and
	placedWith   *keeper.Conn  // the keeper that has them
	shifted      bool          // among keeping.shifted
	until        time.Duration // of one that is absent, or was: when its wait times out, on the boot clock; 0: as it says itself
	place        *claim        // of an absent request that this one goes on from, until it is entered
	reserved     []ruleUse     // counted in Broker.perRule for it, one for each file that it asks for
	noise        *noise        // it waits for quiet
	lastBlockers []wire.Blocker
}

// place is a file and the path by which its client named it.
type place struct {
	id   flock.ID
	path string
	idle bool // it is not enough that nobody has it locked
}

// waitEnd is when the wait times out, on the boot clock; 0: never. The caller holds Broker.mu.
func (r *request) waitEnd() time.Duration {
	if r.phase == phaseAbsent {
		return r.until
	}
	return r.due.at
}

// placeOf gives the place of file i. For whoever works on the claim.
func (r *request) placeOf(i int) place {
	return place{id: r.files[i].ID, path: r.pathOf(i), idle: r.files[i].AsksIdle()}
}

// Verdicts of the broker's own, beside the table's.
const (
	stopped   verdict = 200 + iota // by request.ended, while it waited
	quotaRule                      // over the number of holds that a rule allows
)

// keys gives the files' identities in table order.
func (r *request) keys() []key {
	ks := make([]key, len(r.files))
	for i, f := range r.files {
		ks[i] = keyOf(f.ID)
	}
	return ks
}

func keyOf(id flock.ID) key { return key{dev: id.Dev, ino: id.Ino} }

// closeFiles lets go of every descriptor that did not become a hold.
func (r *request) closeFiles() {
	r.parked()
	for i, f := range r.files {
		switch {
		case f == nil:
			continue
		case f.Network:
			r.s.b.closeApart(f)
		default:
			f.Close()
		}
		r.files[i] = nil
	}
}

// pathOf gives the path by which the client named file i: the first, if it named it twice.
func (r *request) pathOf(i int) string { return r.msg.Paths[slices.Index(r.slot, i)] }

// decisionOf gives the decision on the path of file i.
func (r *request) decisionOf(i int) authz.Decision { return r.decisions[slices.Index(r.slot, i)] }

// answer sends the final answer, once.
func (r *request) answer(m wire.Message) {
	r.answering.Lock()
	defer r.answering.Unlock()
	if !r.answered {
		r.answered = true
		r.s.send(r.id, m)
	}
}

func (r *request) isAnswered() bool {
	r.answering.Lock()
	defer r.answering.Unlock()
	return r.answered
}

// announce sends a Queued, unless the final answer is out already.
func (r *request) announce(m *wire.Queued) {
	r.answering.Lock()
	defer r.answering.Unlock()
	if !r.answered {
		r.s.send(r.id, m)
	}
}

// holdInfo is what the broker knows of a hold beside the table.
type holdInfo struct {
	file    *flock.File
	who     *who
	path    string
	target  string // the file really locked, "" when it is path
	rests   wire.Rest
	life    wire.Life
	tag     string
	reason  string
	rule    string
	grace   time.Duration
	since   time.Time
	began   time.Duration // boot clock
	expires time.Time     // zero: never
	session *session      // of an attached hold
	by      uint64        // session that asked for it, and
	request uint32        // its request id: a Lock that is sent again is known by them
	resumes bool          // that session can resume
	unknown bool          // the log does not know it
	untold  bool          // it is lost, and its session does not know yet: there is no file

	// Guarded by Broker.mu.
	due       deadline // lease end, or end of the grace
	releasing bool     // somebody is letting go of it
	earlier   bool     // an earlier run granted it, and its Lock has not come again: whether it was answered is not known
	outlawed  bool     // the policy in force would not grant it
	ward      *ward    // the guard refuses opens for its sake, and rests has wire.RestGuard; not changed while releasing
	fresh     int      // index in changes.fresh + 1; 0: not there
	changes   *holdChanges
}

// network reports whether letting go of the hold may hang.
func (i *holdInfo) network() bool { return i.file != nil && i.file.Network }
