package broker

import (
	"errors"

	"locker/flock"
	"locker/wire"
)

// refusal puts a verdict into the words of the protocol.
func (b *Broker) refusal(r *request, v verdict) *wire.Error {
	e := &wire.Error{Path: r.msg.Paths[0]}
	switch v {
	case blocked:
		e.Code, e.Text = wire.CodeBusy, "in use"
		e.Blockers = b.blockersOf(r, nil)
	case deadlock:
		e.Code, e.Text = wire.CodeDeadlock, "waiting would close a circle: the holder waits for a lock of yours; release yours first"
		e.Blockers = b.cycleBlockers(r)
	case conversion:
		e.Code, e.Text = wire.CodeConversion, "you hold it in the other mode, and a lock cannot be converted safely; release it first"
	case quotaHolds:
		e.Code, e.Text = wire.CodeQuota, "you hold as many locks as you may; see 'locker status'"
	case quotaWaiters:
		e.Code, e.Text = wire.CodeQuota, "as many of your requests wait as may; see 'locker status'"
	case quotaRule:
		e.Code, e.Text = wire.CodeQuota, "you hold as many locks as the policy's rule for this path allows"
	default:
		e.Code, e.Text = wire.CodeInternal, "the lock table gave an unknown verdict"
	}
	if len(e.Blockers) > 0 && e.Blockers[0].Path != "" {
		e.Path = e.Blockers[0].Path
	}
	return e
}

// refuse ends a request that is not, or no longer, in the table.
func (b *Broker) refuse(r *request, e *wire.Error) []event {
	b.deny(r, e)
	b.mu.Lock()
	evs := b.leave(r)
	b.mu.Unlock()
	r.closeFiles()
	r.answer(e)
	return evs
}

// denied is the one answer to those who may not lock a path, whatever is there.
func denied(path string) *wire.Error {
	return &wire.Error{Code: wire.CodeDenied, Path: path, Text: "the policy does not let you lock this, or there is nothing here that you may lock"}
}

// openRefusal puts what opening said into the words of the protocol. Whoever gets here may lock the path by the policy,
// so he may learn what is there.
func (b *Broker) openRefusal(r *request, err error) *wire.Error {
	e := &wire.Error{Code: wire.CodeInternal, Text: "the file cannot be opened"}
	var oe *openError
	var unknown *flock.NoIdle
	var unheard *flock.NoQuiet
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
	case errors.As(err, &unknown):
		e.Code, e.Text = wire.CodeUnsupported, unknown.Error()
	case errors.As(err, &unheard):
		e.Code, e.Text = wire.CodeUnsupported, "the rule asks for quiet: "+unheard.Error()
	case errors.Is(err, errManyLooks):
		e.Code, e.Text = wire.CodeUnavailable, errManyLooks.Error()+"; try again"
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

// cannotRecord is the answer when the log or the keeper cannot take a grant.
func (b *Broker) cannotRecord(r *request, err error) *wire.Error {
	b.logger.Error("grant refused", "error", err)
	if errors.Is(err, errNotKept) {
		return &wire.Error{
			Code: wire.CodeUnavailable, Path: r.msg.Paths[0],
			Text: "lockerd's keeper cannot take another copy now, so nothing is granted; try again, or see 'locker status'",
		}
	}
	return &wire.Error{
		Code: wire.CodeUnavailable, Path: r.msg.Paths[0],
		Text: "the audit log cannot take records now, so nothing is granted; locks held can be released; see 'locker status'",
	}
}
