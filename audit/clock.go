package audit

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock gives both times of a record. CLOCK_BOOTTIME never steps as wall time does, and counts suspend as
// CLOCK_MONOTONIC does not; but it costs a system call, as much as encoding a whole record, and Append is called
// under its caller's mutex. So the distance between the two is remembered. It changes by a suspend alone, and
// then wall time has run away from CLOCK_MONOTONIC, too.
type clock struct {
	now  func() time.Time     // nil: time.Now
	boot func() time.Duration // nil: CLOCK_BOOTTIME

	start time.Time     // of this process's readings of CLOCK_MONOTONIC
	ahead time.Duration // wall time is by so much ahead of CLOCK_MONOTONIC since start
	boot0 time.Duration // CLOCK_BOOTTIME is by so much
}

// read is called with the log's mu held.
func (c *clock) read() (wall time.Time, boot time.Duration) {
	if c.now != nil || c.boot != nil {
		return c.set()
	}
	now := time.Now()
	if c.start.IsZero() {
		c.start = now
	}
	mono := now.Sub(c.start)
	ahead := time.Duration(now.UnixNano()) - mono
	if off := ahead - c.ahead; off > time.Millisecond || off < -time.Millisecond {
		c.ahead, c.boot0 = ahead, sinceBoot()-mono
	}
	return now.Round(0).UTC(), c.boot0 + mono
}

// set reads the clocks that Config has set.
func (c *clock) set() (wall time.Time, boot time.Duration) {
	now, since := c.now, c.boot
	if now == nil {
		now = time.Now
	}
	if since == nil {
		since = sinceBoot
	}
	return now().Round(0).UTC(), since()
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	// clock_gettime(2); it cannot fail for a clock that every kernel since 2.6.39 has.
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
