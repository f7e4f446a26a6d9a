package broker

import (
	"cmp"
	"slices"
)

// The lock table: who holds which file, who waits for it, and who is next. It is pure: no clock, no
// I/O, no mutex, no goroutine. The broker calls it under its own mutex and acts on what it answers.
//
// A claim (one lock request, 1 to 64 files) is *waiting* until it may go ahead, then *pending* while
// the broker asks the kernel, and then it is granted and gives one hold per file. A pending claim has
// its files for itself: everybody else, readers too, waits until the kernel has answered.

// mode of a claim and of a hold. The zero value is no mode.
type mode uint8

const (
	exclusive mode = iota + 1
	shared
)

// key is the identity of a file; keys are ordered by (dev, ino).
type key struct{ dev, ino uint64 }

// owner is whom a hold belongs to. Attached: the session (session != 0, tag ""). Detached: (uid, tag).
type owner struct {
	uid     uint32
	session uint64
	tag     string
}

// compareKeys orders keys by (dev, ino).
func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.dev, b.dev), cmp.Compare(a.ino, b.ino))
}

// sortKeys sorts in place, drops doubles and returns the rest.
func sortKeys(keys []key) []key {
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys)
}

// limits: holds and waiters of one uid, and of all together. uid 0 may use the last 1/32 of each
// "all" that the others may not. 0 allows none.
type limits struct{ holds, holdsAll, waiters, waitersAll int }

// claimState is where a claim is. The zero value: not in a table yet.
type claimState uint8

const (
	claimWaiting claimState = iota + 1 // in the queues of its files
	claimPending                       // told to ask the kernel
	claimGranted                       // has become holds
	claimGone                          // left: satisfied, refused or abandoned
)

// claim is one lock request. The caller fills in the first block before add and changes nothing after.
type claim struct {
	owner owner
	uid   uint32 // = owner.uid
	mode  mode
	keys  []key // 1..64, ascending, each once: see sortKeys
	req   *request

	state          claimState
	round, arrival uint64 // its place: the smaller (round, arrival) goes first, in every queue

	party      *party  // of its owner
	files      []*file // parallel to keys, while it is in the table
	one        [1]*file
	covered    int    // how many of its keys its owner holds (ending holds do not count)
	prev, next *claim // of the same owner
	tangled    bool   // counted in line.tangled
	met        uint64 // by which search for a cycle; of an owner's first claim
}

// inTable reports whether the claim is waiting or pending.
func (c *claim) inTable() bool { return c.state == claimWaiting || c.state == claimPending }

// hold is one file held by one owner. Only the table writes to it, info excepted.
type hold struct {
	id     uint64 // the fencing token
	key    key
	owner  owner
	uid    uint32 // = owner.uid
	mode   mode
	ending bool // broken or expired, in its grace: see markEnding
	info   *holdInfo

	party                *party
	filePrev, fileNext   *hold // holders of the file; the first one's filePrev is the last
	partyPrev, partyNext *hold // holds of the owner; the first one's partyPrev is the last
}

// verdict is what the table says about a claim. The zero value grants nothing.
type verdict uint8

const (
	pending      verdict = iota + 1 // may ask the kernel now
	queued                          // waits (add, rekey)
	satisfied                       // its owner holds all of it already: detail.owned; the claim is gone
	blocked                         // would have to wait (tryAdd); nothing was entered
	deadlock                        // would close a cycle of owners: detail.cycle; the claim is gone
	conversion                      // its owner holds a file of it in the other mode: detail.owned; gone
	quotaHolds                      // more holds than its uid, or all, may have; nothing was entered
	quotaWaiters                    // more waiters than its uid, or all, may have; nothing was entered
)

// detail says more about a verdict.
type detail struct {
	owned []*hold // what the claim's owner holds of the claim's files already (ending ones left out), in key order
	cycle []link  // deadlock: what the claim waits for, what that one's owner waits for, …; the last belongs to the claim's own owner
}

// link is one step of a deadlock: an owner and what it has that the one before it waits for: a hold, or a
// claim that is ahead in a queue. Exactly one of hold and claim is set.
type link struct {
	owner owner
	key   key
	hold  *hold
	claim *claim
}

// event is a claim that moved because of something else that happened.
//
//	pending     it may ask the kernel now
//	satisfied   its owner got all of it through another claim (d.owned); gone
//	conversion  its owner got a file of it in the other mode (d.owned); gone
//	deadlock    its owner gave up or lost a hold or another claim on a file of it, and what it waits
//	            for now waits for its owner (d.cycle); gone
//
// All of them happen to waiting claims alone: there is always a file that a pending claim has for itself, so nothing
// that others do can satisfy or refuse it. What it needs can change, see need.
type event struct {
	c *claim
	v verdict
	d detail
}

// table is the lock table. Every map entry in it is there for a hold or a claim and goes with the last one.
type table struct {
	limits  limits
	byKey   map[key]*file
	ids     map[uint64]*hold
	parties map[owner]*party
	usages  map[uint32]*usage
	all     usage // of everybody; its parties field is not used
	asked   int   // keys of all claims in the table

	arrivals uint64
	searches uint64 // for cycles
	moves    moves
}

// file is one file that is held or claimed.
type file struct {
	holds             *hold // see hold.fileNext
	line              *line // nil when nobody is pending or waiting
	exclusive, shared uint32
}

// party is an owner who holds or claims something.
type party struct {
	usage          *usage
	holds          *hold  // see hold.partyNext
	claims         *claim // waiting and pending ones
	held, ending   uint32 // how many holds, and how many of them are ending
	prevOf, nextOf *party // of the same uid
}

// usage is what a uid has in the table. Keys that its claims need count as if they were held, so that being
// granted can never take a uid over its limit.
type usage struct {
	holds, needs, waiters int
	parties               *party
}

// newTable returns an empty table.
func newTable(l limits) *table {
	return &table{
		limits: l, byKey: map[key]*file{}, ids: map[uint64]*hold{},
		parties: map[owner]*party{}, usages: map[uint32]*usage{},
	}
}
