package broker

import (
	"container/heap"
	"context"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// deadlineKind says what is due.
type deadlineKind uint8

const (
	deadlineWait  deadlineKind = iota + 1 // of a request: the time to wait is over
	deadlineLease                         // of a hold: its lease ends
	deadlineGrace                         // of a hold: the grace of its session ends
	deadlineAway                          // of a session of an earlier run: its client has not come back
)

// deadline is embedded in what it is about. at is on the boot clock, which counts suspend: a lease must not outlive a
// night with the lid closed.
type deadline struct {
	at   time.Duration
	kind deadlineKind
	r    *request
	h    *hold
	s    *session
	slot int // index in the heap + 1; 0: not armed
}

func (d *deadline) armed() bool { return d.slot != 0 }

// deadlines is a heap by time, with removal, so that a lock held for a moment under a rule of 12 h leaves nothing behind.
type deadlines struct{ q []*deadline }

func (d *deadlines) Len() int           { return len(d.q) }
func (d *deadlines) Less(i, j int) bool { return d.q[i].at < d.q[j].at }
func (d *deadlines) Swap(i, j int) {
	d.q[i], d.q[j] = d.q[j], d.q[i]
	d.q[i].slot, d.q[j].slot = i+1, j+1
}
func (d *deadlines) Push(x any) {
	e := x.(*deadline)
	d.q = append(d.q, e)
	e.slot = len(d.q)
}
func (d *deadlines) Pop() any {
	last := len(d.q) - 1
	e := d.q[last]
	d.q[last] = nil
	d.q = d.q[:last]
	e.slot = 0
	return e
}

// remove disarms e, if it is armed.
func (d *deadlines) remove(e *deadline) {
	if e.armed() {
		heap.Remove(d, e.slot-1)
	}
}

// arm sets a deadline. The caller holds mu.
func (b *Broker) arm(e *deadline, at time.Duration, kind deadlineKind, r *request, h *hold) {
	*e = deadline{at: at, kind: kind, r: r, h: h}
	heap.Push(&b.deadlines, e)
	if b.deadlines.q[0] == e {
		b.poke()
	}
}

// poke has the deadline keeper look again. It cannot block: one poke outstanding is enough.
func (b *Broker) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// suppressedEvery is how often a count of suppressed denials is looked at while there is one.
const suppressedEvery = time.Second

// longestSleep bounds how late a deadline is noticed after a suspend, which timers do not count.
const longestSleep = 10 * time.Second

// keepTime ends what is due until stop is done. What that sets going has ctx.
func (b *Broker) keepTime(ctx, stop context.Context) {
	timer := time.NewTimer(longestSleep)
	defer timer.Stop()
	for {
		timer.Reset(b.endDue(ctx))
		select {
		case <-stop.Done():
			return
		case <-b.wake:
		case <-timer.C:
		}
	}
}

// endDue ends everything that is due, and gives the time until the next deadline.
func (b *Broker) endDue(ctx context.Context) time.Duration {
	for {
		b.mu.Lock()
		now := b.boot()
		b.recordSuppressed(now)
		rest := longestSleep
		if b.denials.pending+b.waits.pending+b.alters.pending > 0 {
			rest = suppressedEvery
		}
		if b.keepShifted() {
			rest = shiftedPause
		}
		if b.deadlines.Len() == 0 || b.deadlines.q[0].at > now {
			if b.deadlines.Len() > 0 {
				rest = min(rest, b.deadlines.q[0].at-now)
			}
			b.mu.Unlock()
			return rest
		}
		next := b.deadlines.q[0]
		heap.Pop(&b.deadlines)
		kind, r, h, away := next.kind, next.r, next.h, next.s
		guarded := h != nil && h.info.ward != nil || away != nil && b.guarding.conn != nil
		var evs []event
		if kind == deadlineWait {
			evs = b.stop(r, wire.CodeTimeout)
		}
		b.mu.Unlock()
		end := func() {
			switch kind {
			case deadlineWait:
				b.runApart(ctx, evs)
			case deadlineLease:
				b.expire(ctx, h)
			case deadlineGrace:
				b.graceOver(ctx, h)
			case deadlineAway:
				b.endAway(ctx, away, "its client did not come back after a restart of lockerd")
			}
		}
		if guarded { // to lift that waits for the guard, which may hang: the clock goes on for everybody else
			b.work.Go(end)
		} else {
			end()
		}
	}
}

// bootTime reads CLOCK_BOOTTIME, which goes on during suspend and never jumps. clock_gettime(2).
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("broker: no boot clock: " + err.Error()) // Linux has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}
