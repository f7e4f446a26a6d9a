package broker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"locker/flock"
	"locker/guard"
	"locker/wire"
)

// ward is a bundle that the guard refuses opens of, from when it is told until lift.
type ward struct {
	conn *guard.Conn
	id   uint64 // to the guard

	// Guarded by Broker.mu.
	path string        // as the client named it
	hold uint64        // 0: not granted yet
	told time.Duration // boot clock: when its last refusals were recorded; 0: none were
	left []guard.Event // refusals that are not recorded yet, for each program
}

// wardFiles is how many descriptors a bundle's directories take for a moment.
const wardFiles = guard.MaxDirs + 2

// newWard has the guard refuse opens below the bundle f, for uid. It waits for a slot of gate, if there is one, while it looks what
// the bundle's directories are, which their owner can make slow, and then for the guard's answer.
func (b *Broker) newWard(ctx context.Context, conn *guard.Conn, uid uint32, gate *slots, opener *flock.Opener, f *flock.File, path string) (*ward, error) {
	if err := b.beginOpening(uid, wardFiles); err != nil {
		return nil, err
	}
	defer b.endOpening(wardFiles)
	dirs, err := b.bundleDirs(ctx, gate, opener, f)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, fd := range dirs {
			unix.Close(fd)
		}
	}()
	b.mu.Lock()
	b.guarding.last++
	w := &ward{conn: conn, id: b.guarding.last, path: path}
	b.guarding.wards[w.id] = w // before it can be spoken of
	b.mu.Unlock()
	// From here on, and not from before the bundle was read: else its owner would have the guard taken for one that hangs.
	asking, cancel := context.WithTimeout(ctx, guardPatience)
	defer cancel()
	if err := conn.Guard(asking, w.id, dirs); err != nil {
		if errors.Is(err, guard.ErrGone) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			b.loseGuard(conn) // it hangs, and what it may have done ends with the connection; or who looks next would find it still
		}
		b.lift(w)
		return nil, err
	}
	return w, nil
}

// bundleDirs opens the directories of a bundle that are guarded. The caller closes them.
func (b *Broker) bundleDirs(ctx context.Context, gate *slots, opener *flock.Opener, f *flock.File) ([]int, error) {
	if gate != nil {
		if !gate.acquire(ctx, openWait) {
			return nil, errTooManyOpens
		}
		defer gate.release()
	}
	if b.beforeWard != nil {
		b.beforeWard()
	}
	dirs, more, err := opener.BundleDirs(f, guard.MaxDirs)
	if more && err == nil {
		b.logger.Debug("a bundle has more directories than are guarded", "path", f.Path, "guarded", len(dirs))
	}
	return dirs, err
}

// lift ends a ward: when it returns the guard refuses nobody for its sake, or is gone, or hangs and is about to be killed. The caller
// does not hold mu.
func (b *Broker) lift(w *ward) {
	b.mu.Lock()
	b.flushWard(w)
	delete(b.guarding.wards, w.id)
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), guardPatience)
	defer cancel()
	if err := w.conn.Lift(ctx, w.id); err != nil && !errors.Is(err, guard.ErrGone) {
		b.logger.Error("the guard may still refuse opens", "path", w.path, "error", err)
		b.loseGuard(w.conn) // what it guards ends with the connection
	}
}

// liftAll ends the wards of a claim that is not granted.
func (r *request) liftAll() {
	wards := r.wards
	r.wards, r.unguarded, r.guardAsked = nil, nil, false
	for _, w := range wards {
		if w != nil {
			r.s.b.lift(w)
		}
	}
}

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
	b.work.Go(func() { b.runAll(ctx, b.guardFiles(ctx, r)) })
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
	conn := b.awaitGuard(working)
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

// guardEach tells the guard of r's bundles. An error is of file at: it was replaced, or we are short of something; whatever else keeps
// a bundle from the guard does not keep it from being held.
func (b *Broker) guardEach(ctx context.Context, r *request, conn *guard.Conn) (at int, err error) {
	r.wards, r.unguarded = make([]*ward, len(r.files)), make([]error, len(r.files))
	// As for the files themselves: nobody's bundles, however slow they are, keep another's from the guard.
	acct, gate := r.s.acct, &b.gates.opens
	if acct.uid == 0 {
		gate = nil
	}
	turn := acct.opens.acquire(ctx, openWait)
	if turn {
		defer acct.opens.release()
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

// The guard itself opens a file for a moment when somebody is refused it. So a file that is found open is asked about so many times.
const (
	askedAgain    = 10
	askAgainPause = time.Millisecond
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
