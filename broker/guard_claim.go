package broker

import (
	"context"
	"errors"
	"time"

	"locker/flock"
	"locker/guard"
	"locker/wire"
)

// wantsWard reports whether the guard is still to be asked about r's files, which are locked. The caller holds mu.
func (b *Broker) wantsWard(r *request) bool {
	if !b.wantsGuard() || r.guardAsked && (r.guardedBy == b.guarding.conn || r.guardsLost == maxGuardsLost) {
		return false
	}
	for i, f := range r.files {
		if f.Bundle && !f.Network && !r.covered[i] {
			return true
		}
	}
	return false
}

// maxGuardsLost bounds how many guards may end under a claim, before it goes on without: it may be the claim that they end of.
const maxGuardsLost = 3

// maxDisturbed bounds how often in a row a claim finds a bundle open only after the guard was told.
const maxDisturbed = 8

// guardApart has the guard refuse opens below r's bundles, in a goroutine of its own, since that may wait, and goes on with the grant.
//
// The bundle was not open a moment ago, or the guard would be told in vain, and a Mac that works be disturbed each time that we
// look. Who has opened it since is found by asking again, when he would be refused.
func (b *Broker) guardApart(ctx context.Context, r *request) []event {
	b.apart(ctx, r, func() []event { return b.guardFiles(ctx, r) })
	return nil
}

func (b *Broker) guardFiles(ctx context.Context, r *request) []event {
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	b.mu.Lock()
	if r.cancel = cancel; r.ended != 0 {
		cancel()
	}
	b.mu.Unlock()
	if r.guardAsked && r.guardedBy != nil {
		r.guardsLost++
	}
	r.liftAll() // of a guard that is gone
	conn, ended := b.awaitGuard(working, r)
	if ended {
		r.unlockFiles(len(r.files))
		return b.ended(r)
	}
	r.guardAsked, r.guardedBy = true, conn
	if conn == nil {
		return b.lookAgain(ctx, r)
	}
	switch at, err := b.guardEach(working, r, conn); {
	case err == nil:
	case errors.Is(err, flock.ErrMoved):
		r.unlockFiles(len(r.files))
		return b.follow(ctx, r)
	default:
		r.unlockFiles(len(r.files))
		return b.refuse(r, b.openRefusal(r, &openError{path: r.pathOf(at), err: err}))
	}
	if busy, err := r.askAgain(working); err != nil {
		r.unlockFiles(len(r.files))
		return b.openedSince(ctx, r, busy, err)
	}
	// It was quiet a moment ago. Whether it still is may not wait for its uid's turn: the guard would be lifted for that, and the next try be no better.
	r.heard = r.asksQuiet()
	return b.lookAgain(ctx, r)
}

// awaitGuard gives the guard; nil if there is none, and for so long that nobody shall wait for it. ended: the request was meanwhile.
//
// A guard that has just gone is back in a moment, and without it a Mac could get into the bundle for as long as it is held. So who does
// not want to wait for others waits for it too, as he does for the keeper: it is not somebody who has the file. Whoever has set a time gets
// his answer when that is over, and it is no grant that lacks what is coming. Only here the time counts: while there is a guard it answers or
// dies within a second, and who gave up would wait as long for it to lift what it was told.
func (b *Broker) awaitGuard(ctx context.Context, r *request) (conn *guard.Conn, ended bool) {
	b.mu.Lock()
	conn, again, left := b.guarding.conn, b.guarding.again, b.times.guard-(b.boot()-b.guarding.since)
	if conn != nil || left <= 0 {
		b.mu.Unlock()
		return conn, false
	}
	r.awaitsGuard = true
	armed := r.due.armed()
	if r.ended == 0 && r.msg.Wait != wire.NonBlock {
		b.setWaitDeadline(r)
		b.recordWait(r, "there is no guard yet")
	}
	b.mu.Unlock()
	over := time.NewTimer(left)
	defer over.Stop()
	select {
	case <-again:
	case <-over.C:
	case <-r.regime.over: // the policy may ask for none any more: lookAgain asks it
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if ended = r.ended != 0; !ended { // else it is told what it waited for
		r.awaitsGuard = false
		if !armed {
			b.deadlines.remove(&r.due)
		}
	}
	return b.guarding.conn, ended
}

// guardEach tells the guard of r's bundles. An error is of file at: it was replaced, or we are short of something; whatever else keeps
// a bundle from the guard does not keep it from being held.
func (b *Broker) guardEach(ctx context.Context, r *request, conn *guard.Conn) (at int, err error) {
	r.wards, r.unguarded = make([]*ward, len(r.files)), make([]error, len(r.files))
	// As for the files themselves: nobody's bundles, however slow they are, keep another's from the guard.
	acct, gate := r.s.acct, &b.gates.opens
	if acct.uid == 0 {
		gate = nil
	}
	turn := acct.opens.acquire(ctx, b.times.open)
	if turn {
		defer func() {
			acct.opens.release()
			b.gaveBack(acct)
		}()
	}
	for i, f := range r.files {
		if !f.Bundle || f.Network || r.covered[i] {
			continue
		}
		err := errTooManyOpens
		if turn {
			r.wards[i], err = b.newWard(ctx, conn, acct.uid, gate, r.regime.opener, f, r.pathOf(i))
		}
		switch {
		case err == nil, errors.Is(err, guard.ErrGone), ctx.Err() != nil: // the grant looks who ended it, and for the next guard
		case errors.Is(err, flock.ErrMoved), isShortage(err):
			return i, err
		default:
			r.unguarded[i] = err
		}
	}
	return 0, nil
}

// The guard itself opens a file for a moment when somebody is refused it. So a file that is found open is asked about so many times, and
// not for long: who has it open for real is refused all else in the bundle meanwhile.
const (
	askedAgain    = 4
	askAgainPause = 250 * time.Microsecond
)

// askAgain asks whether anybody has one of the files open that rest on nobody having; busy says which.
func (r *request) askAgain(ctx context.Context) (busy int, err error) {
	for i, f := range r.files {
		if r.covered[i] || !f.Idle {
			continue
		}
		err := f.AskAgain()
		for n := 1; n < askedAgain && errors.Is(err, flock.ErrInUse) && ctx.Err() == nil; n++ {
			pause := time.NewTimer(askAgainPause)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			pause.Stop()
			err = f.AskAgain()
		}
		if err != nil {
			return i, err
		}
	}
	return 0, nil
}

// openedSince goes on with a claim whose file was opened after it was found idle, and before the guard was told. Nothing is locked.
func (b *Broker) openedSince(ctx context.Context, r *request, busy int, err error) []event {
	if !errors.Is(err, flock.ErrInUse) {
		return b.refuse(r, b.openRefusal(r, &openError{path: r.pathOf(busy), err: err}))
	}
	b.mu.Lock()
	ended := r.ended != 0
	if !ended && r.msg.Wait != wire.NonBlock {
		b.setWaitDeadline(r)
	}
	b.mu.Unlock()
	if ended {
		return b.ended(r)
	}
	if r.disturbed++; r.disturbed > maxDisturbed {
		if r.msg.Wait == wire.NonBlock {
			return b.busyOutside(ctx, r, busy)
		}
		if !b.pause(ctx, r) {
			return b.ended(r)
		}
	}
	return b.notLocked(ctx, r, busy, err)
}

// takeWard gives the ward of file i to the hold that it becomes. The caller holds mu.
func (r *request) takeWard(i int) *ward {
	if r.wards == nil {
		return nil
	}
	w := r.wards[i]
	if w != nil && w.conn != r.s.b.guarding.conn { // the policy names nobody any more
		return nil
	}
	return w
}
