package broker

import (
	"slices"
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

// refusalPause is how far apart records of refusals below one bundle are, of each program one. A server whose client tries on and on
// would fill the log, and so would several that take turns.
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
	i := slices.IndexFunc(w.left, func(e guard.Event) bool { return e.Executable == ev.Executable })
	if i < 0 { // there are no more than the policy names
		i, w.left = len(w.left), append(w.left, guard.Event{Executable: ev.Executable})
	}
	w.left[i].PID = ev.PID
	w.left[i].Count += min(ev.Count, 1<<32-1-w.left[i].Count) // does not wrap
	if now := b.boot(); w.told == 0 || now-w.told >= refusalPause {
		b.flushWard(w)
		w.told = max(now, 1)
	}
}

// flushWard records the refusals that are not recorded yet. The caller holds mu.
func (b *Broker) flushWard(w *ward) {
	for _, e := range w.left {
		b.append(&audit.Record{
			Event: audit.EventGuard, Code: guardRefused, ID: w.hold, Path: w.path, PID: e.PID, Count: uint64(e.Count), Text: e.Executable,
		})
	}
	w.left = nil
}

// flushWards is flushWard for all. The caller holds mu.
func (b *Broker) flushWards() {
	for _, w := range b.guarding.wards {
		b.flushWard(w)
	}
	b.flushWard(&b.guarding.nowhere)
}

// recordUnguarded records that the guard does not refuse opens below a bundle that is held. Any user may have a bundle of which it cannot be
// told, so there is one record for each hold, and no line. The caller holds mu.
func (b *Broker) recordUnguarded(hold uint64, path string, err error) {
	b.append(&audit.Record{Event: audit.EventGuard, Code: guardUnguarded, ID: hold, Path: path, Text: errText(err)})
}
