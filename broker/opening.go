package broker

import (
	"context"
	"errors"
	"slices"

	"locker/flock"
	"locker/wire"
)

// openFiles opens the request's files and gives them in order of (dev, ino), each once, however many names it was given by;
// slot has the index of the file of each path.
func (b *Broker) openFiles(ctx context.Context, r *request) (files []*flock.File, slot []int, err error) {
	// What may hang has a slot of its own kind: else a server that does not answer would keep everybody from opening anything.
	if !slices.ContainsFunc(r.msg.Paths, r.regime.opener.Network) {
		if !r.s.acct.enterOpen(ctx, b) {
			return nil, nil, errTooManyOpens
		}
		defer r.s.acct.leaveOpen(b)
	}
	if err := b.beginOpening(r.who.peer.UID, len(r.msg.Paths)); err != nil {
		return nil, nil, err
	}
	defer b.endOpening(len(r.msg.Paths))
	_, m := modeOf(r.msg.Mode)
	opened := make([]*flock.File, len(r.msg.Paths))
	for i, path := range r.msg.Paths {
		if before := slices.Index(r.msg.Paths[:i], path); before >= 0 { // each open of a file keeps those from it who want it idle
			opened[i] = opened[before]
			continue
		}
		d := &r.decisions[i]
		f, err := r.regime.opener.Open(path, flock.Want{Mode: m, Hardlinks: d.Hardlinks, Engines: flock.Engines(d.Engines), Idle: r.idle})
		if err != nil {
			for _, f := range opened[:i] {
				f.Close()
			}
			return nil, nil, &openError{path: path, err: err}
		}
		opened[i] = f
	}
	files, slot = arrange(opened)
	return files, slot, nil
}

// arrange sorts the opened files, drops what was named twice, and notes which path leads to which file.
func arrange(opened []*flock.File) (files []*flock.File, slot []int) {
	slot = make([]int, len(opened))
	if len(opened) == 1 {
		return opened, slot
	}
	files = slices.Clone(opened)
	slices.SortStableFunc(files, func(a, b *flock.File) int { return compareKeys(keyOf(a.ID), keyOf(b.ID)) })
	kept := files[:1]
	for _, f := range files[1:] {
		switch last := kept[len(kept)-1]; {
		case f == last:
		case f.ID == last.ID:
			f.Close()
		default:
			kept = append(kept, f)
		}
	}
	for i, f := range opened {
		slot[i] = slices.IndexFunc(kept, func(g *flock.File) bool { return g.ID == f.ID })
	}
	return kept, slot
}

type openError struct {
	path string
	err  error
}

func (e *openError) Error() string { return e.err.Error() }

func (e *openError) Unwrap() error { return e.err }

var errTooManyOpens = errors.New("too many files are being opened at this moment")

// openFailed answers a request whose files cannot be opened, or waits while somebody's file lease is in the way.
func (b *Broker) openFailed(ctx context.Context, r *request, err error) {
	if errors.Is(err, flock.ErrBusy) && r.msg.Wait != wire.NonBlock {
		b.waitForOpen(ctx, r)
		return
	}
	refusal := b.openRefusal(r, err)
	b.deny(r, refusal)
	b.mu.Lock()
	evs := b.leave(r)
	b.mu.Unlock()
	r.answer(refusal)
	b.run(ctx, evs)
}

// waitForOpen tries again until the lease is gone. No kernel event tells of it; the kernel breaks a lease by itself
// after /proc/sys/fs/lease-break-time.
func (b *Broker) waitForOpen(ctx context.Context, r *request) {
	waiting, cancel := context.WithCancel(ctx)
	b.mu.Lock()
	if r.s.acct.leaseWaits >= b.limits().Waiters {
		r.ended = wire.CodeQuota // such a wait is in no queue of the table, so its quota is counted here
	} else {
		b.recordWait(r, "another program has a lease on the file")
		b.setWaitDeadline(r)
	}
	r.s.acct.leaseWaits++
	r.cancel = cancel
	if r.ended != 0 {
		cancel()
	}
	b.mu.Unlock()
	r.announce(&wire.Queued{Position: 1})
	b.work.Go(func() {
		defer cancel()
		err := b.retryOpen(waiting, r)
		b.mu.Lock()
		r.s.acct.leaseWaits--
		b.forgetIdle(r.s.acct)
		b.mu.Unlock()
		switch {
		case err == nil:
			b.inSlot(ctx, r, func() []event { return b.enter(ctx, r) })
		case waiting.Err() != nil:
			b.giveUp(ctx, r, wire.CodeShutdown)
		default:
			b.openFailed(ctx, r, err)
		}
	})
}

// retryOpen opens r's files as soon as no lease is in the way.
func (b *Broker) retryOpen(ctx context.Context, r *request) error {
	var last error
	err := b.waiter.Wait(ctx, nil, func() bool {
		return b.tryInSlot(ctx, r, func() bool {
			r.files, r.slot, last = b.openFiles(ctx, r)
			return !errors.Is(last, flock.ErrBusy) && !errors.Is(last, errTooManyOpens) && !isShortage(last)
		})
	})
	if err != nil {
		return err
	}
	return last
}
