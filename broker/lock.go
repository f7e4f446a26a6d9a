package broker

import (
	"context"
	"errors"
	"slices"

	"locker/audit"
	"locker/authz"
	"locker/flock"
	"locker/wire"
)

// lock works on one Lock request until it is answered, or waits in the table, or (where opening and locking may
// hang, or somebody's file lease is in the way) until a goroutine of its own has taken it over.
func (b *Broker) lock(ctx context.Context, s *session, id uint32, m *wire.Lock) {
	r := &request{s: s, who: s.identify(), id: id, msg: m, began: b.boot(), phase: phaseOpening}
	if refusal := b.decide(r); refusal != nil {
		b.deny(r, refusal)
		r.answer(refusal)
		return
	}
	b.mu.Lock()
	refusal := b.admit(r)
	b.mu.Unlock()
	if refusal != nil {
		b.deny(r, refusal)
		r.answer(refusal)
		return
	}
	if slices.ContainsFunc(m.Paths, r.regime.opener.Network) {
		// Opening and locking there can hang beyond SIGKILL: never in the session's own goroutine.
		if !s.acct.enterSlow(ctx, b) {
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
	if _, taken := r.s.requests[r.id]; taken {
		return &wire.Error{Code: wire.CodeInvalid, Text: "this request id is still in use"}
	}
	if r.s.ended {
		return &wire.Error{Code: wire.CodeCanceled, Text: "connection closed"}
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
			return denied(path)
		}
	}
	return nil
}

// denied is the one answer to those who may not lock a path, whatever is there.
func denied(path string) *wire.Error {
	return &wire.Error{Code: wire.CodeDenied, Path: path, Text: "the policy does not let you lock this, or there is nothing here that you may lock"}
}

// open opens the files and enters the claim into the table.
func (b *Broker) open(ctx context.Context, r *request) {
	var err error
	if r.files, r.slot, err = b.openFiles(ctx, r); err != nil {
		b.openFailed(ctx, r, err)
		return
	}
	b.run(ctx, b.enter(ctx, r))
}

// openFiles opens the request's files and gives them in order of (dev, ino), each once, however many names it was given by;
// slot has the index of the file of each path.
func (b *Broker) openFiles(ctx context.Context, r *request) (files []*flock.File, slot []int, err error) {
	if !r.s.acct.enterOpen(ctx, b) {
		return nil, nil, errTooManyOpens
	}
	defer r.s.acct.leaveOpen(b)
	if err := b.beginOpening(r.who.peer.UID, len(r.msg.Paths)); err != nil {
		return nil, nil, err
	}
	defer b.endOpening(len(r.msg.Paths))
	_, m := modeOf(r.msg.Mode)
	opened := make([]*flock.File, len(r.msg.Paths))
	for i, path := range r.msg.Paths {
		d := &r.decisions[i]
		f, err := r.regime.opener.Open(path, flock.Want{Mode: m, Hardlinks: d.Hardlinks, Engines: flock.Engines(d.Engines)})
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
		if f.ID == kept[len(kept)-1].ID {
			f.Close()
		} else {
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

// openRefusal puts what opening said into the words of the protocol. Whoever gets here may lock the path by the policy,
// so he may learn what is there.
func (b *Broker) openRefusal(r *request, err error) *wire.Error {
	e := &wire.Error{Code: wire.CodeInternal, Text: "the file cannot be opened"}
	var oe *openError
	if errors.As(err, &oe) {
		e.Path = oe.path
	}
	switch {
	case errors.Is(err, errTooManyOpens):
		e.Code, e.Text = wire.CodeUnavailable, "too many files are being opened at this moment; try again"
	case isShortage(err):
		e.Code, e.Text = wire.CodeUnavailable, "lockerd is short of file descriptors or memory; try again"
	case errors.Is(err, flock.ErrBusy):
		e.Code, e.Text = wire.CodeBusy, "another program has a lease on the file"
	case errors.Is(err, flock.ErrNotFound):
		e.Code, e.Text = wire.CodeNotFound, "there is no such file or directory"
	case errors.Is(err, flock.ErrSymlink):
		e.Code, e.Text = wire.CodeUnsupported, "the path is or passes through a symbolic link; name the real path"
	case errors.Is(err, flock.ErrKind):
		e.Code, e.Text = wire.CodeUnsupported, "only regular files and directories can be locked"
	case errors.Is(err, flock.ErrNoToken):
		e.Code, e.Text = wire.CodeUnsupported, "a sparsebundle without its token file cannot be locked"
	case errors.Is(err, flock.ErrEngines):
		e.Code, e.Text = wire.CodeUnsupported, "the kinds of lock that the policy's rule asks for cannot be taken on this file"
	case errors.Is(err, flock.ErrHardlinks):
		e.Code, e.Text = wire.CodeUnsupported, "the file has more than one hard link, and no rule for it says hardlinks = true"
	case errors.Is(err, flock.ErrSharedBundle):
		e.Code, e.Text = wire.CodeUnsupported, "a shared lock on a sparsebundle would be granted while a Mac has it open; lock it exclusively"
	case errors.Is(err, flock.ErrMount):
		e.Code, e.Text = wire.CodeUnsupported, "the path crosses a mount point that was not there when the policy was loaded, or that must be named in allow"
	case errors.Is(err, flock.ErrOutside):
		e.Code, e.Text = wire.CodeDenied, denied(e.Path).Text
	case errors.Is(err, flock.ErrMeaningless):
		e.Code, e.Text = wire.CodeUnsupported, "a lock on this file system excludes nobody: "+errText(err)
	default:
		e.Text = "the file cannot be opened: " + errText(err)
	}
	return e
}

// errText is the last cause of err: an errno's words, without paths.
func errText(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
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
		b.mu.Unlock()
		switch {
		case err == nil:
			b.run(ctx, b.enter(ctx, r))
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
		r.files, r.slot, last = b.openFiles(ctx, r)
		return !errors.Is(last, flock.ErrBusy) && !errors.Is(last, errTooManyOpens) && !isShortage(last)
	})
	if err != nil {
		return err
	}
	return last
}

// enter puts the claim into the table and answers what can be answered at once.
func (b *Broker) enter(ctx context.Context, r *request) []event {
	m, _ := modeOf(r.msg.Mode)
	c := &claim{owner: r.owner(), uid: r.who.peer.UID, mode: m, keys: r.keys(), req: r}
	b.mu.Lock()
	if r.ended != 0 {
		b.mu.Unlock()
		b.giveUp(ctx, r, wire.CodeCanceled)
		return nil
	}
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
	evs := b.judge(r, v, d)
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
	if r.waits {
		return
	}
	r.waits = true
	for _, path := range r.msg.Paths {
		rec := b.recordOf(r, audit.EventWait, path)
		rec.Text = text
		b.append(&rec)
	}
}
