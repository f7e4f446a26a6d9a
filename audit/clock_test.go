package audit

import (
	"testing"
	"time"
)

func TestTheBootClockCountsSuspend(t *testing.T) {
	var c clock
	check := func(what string) {
		t.Helper()
		least := sinceBoot()
		wall, boot := c.read()
		if most := sinceBoot(); boot < least-time.Millisecond || boot > most+time.Millisecond || time.Since(wall) > time.Minute {
			t.Errorf("%s: boot clock %v, want %v to %v; wall %v", what, boot, least, most, wall)
		}
	}
	check("at first")
	check("later")
	// As if an hour of suspend had passed since: wall time and CLOCK_BOOTTIME went on, CLOCK_MONOTONIC did not.
	c.ahead -= time.Hour
	c.boot0 -= time.Hour
	check("after a suspend")
	c.ahead += time.Hour // wall time was set back
	check("after a step")
}
