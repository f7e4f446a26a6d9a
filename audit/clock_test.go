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

// The wall clock is set by a year in the middle of a run and between two: nothing depends on it but what people read.
func TestAWallClockSetByAYearChangesNoHoldAndNoOrder(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, step := range []time.Duration{year, -year} {
		dir := t.TempDir() + "/audit"
		now, boot := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC), 9*time.Hour
		tick := func() { now, boot = now.Add(time.Second), boot+time.Second }
		c := Config{Dir: dir, SegmentSize: 13 << 10, BootID: bootA, FS: fast,
			Now: func() time.Time { tick(); return now }, Boot: func() time.Duration { return boot }}
		var want *State
		var last uint64
		for run := range 3 {
			l := openLog(t, c)
			if want != nil {
				sameState(t, "after a restart", l.Replayed(), want)
				if wall, since := l.Last(); !wall.Equal(now.Add(-step).Add(-time.Duration(boot-since))) || since >= boot {
					t.Errorf("%v: last %v %v, now %v %v", step, wall, since, now, boot)
				}
			}
			for n := range 40 {
				r := grant("/srv/a")
				r.Expires = now.Add(time.Hour)
				id := putRec(t, l, r, n%8 == 0)
				if id <= last {
					t.Fatalf("%v: token %d after %d", step, id, last)
				}
				last = id
				if n%3 > 0 {
					putRec(t, l, release(id), false)
				}
				if n == 20 && run == 1 {
					now = now.Add(step)
				}
			}
			want = l.State()
			l.kill()
			now = now.Add(step)
		}
		rep := verifyClean(t, dir)
		if rep.Holds != want.Len() || rep.Segments < 4 {
			t.Errorf("%v: verify %+v", step, rep)
		}
		var before time.Duration
		for _, r := range recordsIn(t, dir) {
			if r.Event == EventHeld {
				continue
			}
			if r.Boot < before {
				t.Fatalf("%v: record %d at boot %v after %v", step, r.Seq, r.Boot, before)
			}
			before = r.Boot
		}
	}
}

// In each boot the boot clock of a hold is a reading of that boot's clock, also when the hold is older than the boot.
func TestAHoldsBootClockCountsFromThePresentBoot(t *testing.T) {
	dir := t.TempDir() + "/audit"
	now, boot := time.Date(2026, 11, 27, 3, 0, 0, 0, time.UTC), 9*time.Hour
	c := Config{Dir: dir, BootID: bootA, FS: fast, Now: func() time.Time { return now }, Boot: func() time.Duration { return boot }}
	l := openLog(t, c)
	id := putRec(t, l, grant("/srv/a"), true)
	lost := must(t, l, grant("/srv/b"))
	must(t, l, &Record{Event: EventLost, ID: lost})
	granted := now
	check := func(want time.Duration) {
		t.Helper()
		if wall, since := l.Replayed().Holds()[0].Grant.Time, l.Replayed().Holds()[0].Grant.Boot; since != want || !wall.Equal(granted) {
			t.Errorf("granted at %v %v, want %v %v", wall, since, granted, want)
		}
	}
	again := func() {
		t.Helper()
		must(t, l, &Record{Event: EventStop})
		state := l.State()
		closeLog(t, l)
		l = openLog(t, c)
		sameState(t, "replayed", l.Replayed(), state)
	}
	now, boot = now.Add(time.Hour), boot+time.Hour
	again()
	check(9 * time.Hour)
	now, boot, c.BootID = now.Add(24*time.Hour), time.Minute, bootB
	again()
	check(9 * time.Hour) // as the boot before has written it
	now, boot = now.Add(time.Hour), boot+time.Hour
	now = now.Add(365 * 24 * time.Hour) // set: in one boot that is no matter
	again()
	check(time.Minute - 25*time.Hour)
	r := grant("/srv/a")
	r.Event, r.ID, r.Gap = EventResume, id, time.Second
	must(t, l, r)
	again()
	check(time.Minute - 25*time.Hour)
	if lost := l.Replayed().Lost(); len(lost) != 1 || lost[0].Grant.Boot != time.Minute-25*time.Hour {
		t.Errorf("lost %+v", lost)
	}
	verifyClean(t, dir)
}
