package broker

import (
	"time"

	"locker/audit"
	"locker/guard"
)

// Codes of the log's records about the guard.
const (
	guardOn         = "on"          // it refuses opens below Count bundles that are held
	guardOff        = "off"         // the policy names nobody any more
	guardGone       = "gone"        // it let go of Count, or could not be reached: Text
	guardFailedOpen = "failed-open" // it let everybody in for a moment
	guardUnguarded  = "unguarded"   // it could not be told of a bundle
	guardRefused    = "refused"     // it refused Count opens below a bundle
)

// refusalPause is how far apart records of refusals below one bundle are. A server whose client tries on and on would fill the log.
const refusalPause = time.Minute

// noteGuardEvent records what the guard said unasked.
func (b *Broker) noteGuardEvent(ev *guard.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ev.FailedOpen != "" {
		b.append(&audit.Record{Event: audit.EventGuard, Code: guardFailedOpen, Text: ev.FailedOpen})
		b.logger.Warn("the guard let everybody in for a moment", "reason", ev.FailedOpen, "guarding_again", ev.Guarded)
		return
	}
	w := b.guarding.wards[ev.ID]
	if w == nil {
		w = &b.guarding.nowhere
	}
	if w.left.Count > 0 && w.left.Executable != ev.Executable {
		b.flushWard(w)
	}
	count := uint64(w.left.Count) + uint64(ev.Count)
	w.left = *ev
	w.left.Count = uint32(min(count, 1<<32-1))
	if now := b.boot(); w.told == 0 || now-w.told >= refusalPause {
		b.flushWard(w)
		w.told = max(now, 1)
	}
}

// flushWard records the refusals that are not recorded yet. The caller holds mu.
func (b *Broker) flushWard(w *ward) {
	if w.left.Count == 0 {
		return
	}
	b.append(&audit.Record{
		Event: audit.EventGuard, Code: guardRefused, ID: w.hold, Path: w.path, PID: w.left.PID, Count: uint64(w.left.Count), Text: w.left.Executable,
	})
	w.left = guard.Event{}
}

// flushWards is flushWard for all. The caller holds mu.
func (b *Broker) flushWards() {
	for _, w := range b.guarding.wards {
		b.flushWard(w)
	}
	b.flushWard(&b.guarding.nowhere)
}

// recordUnguarded records that the guard does not refuse opens below a bundle that is, or is about to be, held. The caller holds mu.
func (b *Broker) recordUnguarded(hold uint64, path string, err error) {
	b.append(&audit.Record{Event: audit.EventGuard, Code: guardUnguarded, ID: hold, Path: path, Text: errText(err)})
	b.logger.Warn("a bundle is not guarded", "path", path, "error", err)
}
