package broker

import (
	"context"
	"sync/atomic"
	"time"

	"locker/authz"
)

const (
	rootConnections = 16              // of connections_all, and descriptors: reserved for root, so that no user can lock the administrator out
	openWait        = 2 * time.Second // for a slot to open files in, or to answer a list in
	listsUID        = 4               // lists being answered to one uid: each is in memory until its client has read it
	slowUID         = 128             // requests on file systems that may hang: of each uid,
	slowAll         = 1024            // and all: each may be a thread that hangs, see slow.go
	endsDev         = 32              // files that are let go of there: of each file system,
	endsAll         = 1024            // and all
)

// account is what one uid uses by its connections. It exists while the uid has one, or uses something: work may outlive the last
// connection, and who disconnects while his opens hang does not get new slots by that.
type account struct {
	uid    uint32
	unsent atomic.Int64 // bytes in outboxes
	opens  slots        // one for each open in progress
	lists  slots        // one for each list being answered
	slow   slots        // one for each request on a file system that may hang
	looks  slots        // one for each look through a bundle
	parted atomic.Bool  // the uid has no connection: whoever gives back the last of it has the account forgotten

	// Guarded by Broker.mu.
	connections int
	early       int // without a first frame
	leaseWaits  int // requests that wait for a file lease to end, and so are in no queue of the table
}

func newAccount(uid uint32, l authz.Limits) *account {
	a := &account{uid: uid}
	a.opens.set(l.Opens)
	a.lists.set(listsUID)
	a.slow.set(slowUID)
	a.looks.set(looksUID)
	return a
}

// idle reports whether nothing is counted any more. The caller holds Broker.mu.
func (a *account) idle() bool {
	return a.connections == 0 && a.leaseWaits == 0 && a.opens.inUse() == 0 && a.slow.inUse() == 0 && a.looks.inUse() == 0 && a.lists.inUse() == 0
}

// gates bounds the work in progress over all uids.
type gates struct {
	opens slots
	slow  slots
	ends  slots
	looks slots
}

func (g *gates) set(l authz.Limits) {
	g.opens.set(l.OpensAll)
	g.slow.set(slowAll)
	g.ends.set(endsAll)
	g.looks.set(looksAll)
}

// enter takes a slot of the uid's and one of everybody's, waiting for each at most wait (0: for ever); false if there was none, or ctx ended.
func (a *account) enter(ctx context.Context, b *Broker, own, all *slots, wait time.Duration) bool {
	if acquireBoth(ctx, own, all, wait) {
		return true
	}
	b.gaveBack(a)
	return false
}

func (a *account) leave(b *Broker, own, all *slots) {
	all.release()
	own.release()
	b.gaveBack(a)
}

// enterOpen waits for a slot to open files in, at most openWait for each of the two; false if there was none.
// root needs no slot of everybody's, so that others cannot take them all.
func (a *account) enterOpen(ctx context.Context, b *Broker) bool {
	if a.uid == 0 {
		return a.opens.acquire(ctx, b.times.open)
	}
	return a.enter(ctx, b, &a.opens, &b.gates.opens, b.times.open)
}

func (a *account) leaveOpen(b *Broker) {
	if a.uid == 0 {
		a.opens.release()
		b.gaveBack(a)
		return
	}
	a.leave(b, &a.opens, &b.gates.opens)
}

// enterSlow takes a slot for what may hang.
func (a *account) enterSlow(ctx context.Context, b *Broker) bool {
	return a.enter(ctx, b, &a.slow, &b.gates.slow, 0)
}

func (a *account) leaveSlow(b *Broker) { a.leave(b, &a.slow, &b.gates.slow) }

// enterList waits for a slot to answer a list in, at most openWait; false if there was none.
func (a *account) enterList(ctx context.Context, b *Broker) bool {
	return a.lists.acquire(ctx, b.times.open)
}

func (a *account) leaveList(b *Broker) {
	a.lists.release()
	b.gaveBack(a)
}

// gaveBack has an account forgotten if what has just been given back was the last of it.
func (b *Broker) gaveBack(a *account) {
	if !a.parted.Load() {
		return // a connection of the uid will see to it when it ends
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetIdle(a)
}

// forgetIdle forgets an account that counts nothing any more. The caller holds mu.
func (b *Broker) forgetIdle(a *account) {
	if a.connections > 0 {
		return
	}
	a.parted.Store(true) // before it is counted: what is given back behind the count sees this, and counts again
	if a.idle() && b.accounts[a.uid] == a {
		delete(b.accounts, a.uid)
	}
}
