package broker

import (
	"testing"

	"locker/guard"
	"locker/wire"
)

// A user can run what is taken for any of the programs, in a mount namespace of his own.
func TestProgramsThatAreRefusedInTurnsDoNotFillTheLog(t *testing.T) {
	var c clocks
	r := mocked(t, c.drive, func(byte) bool { return true })
	eventually(t, "the guard is there", func() bool { s, _ := r.b.guardState(); return s == wire.GuardOn })
	bundle, _ := r.mac()
	p := r.dial()
	g := p.granted(attached(bundle))
	rest(t, g, guardedRests)
	refuse := func(programs ...string) {
		r.b.mu.Lock()
		id := r.b.guarding.last
		r.b.mu.Unlock()
		for _, name := range programs {
			r.b.noteGuardEvent(&guard.Event{ID: id, PID: 7, Executable: name, Count: 1})
		}
	}
	check := func(records int, smbd, afpd uint64) {
		t.Helper()
		got := map[string]uint64{}
		all := r.guardRecords(guardRefused)
		for _, rec := range all {
			if rec.ID != g[0].ID || rec.Path != bundle || rec.PID != 7 {
				t.Fatalf("recorded as %+v", rec)
			}
			got[rec.Text] += rec.Count
		}
		if len(all) != records || got["/smbd"] != smbd || got["/afpd"] != afpd {
			t.Fatalf("%d records of %v; want %d of %d and %d", len(all), got, records, smbd, afpd)
		}
	}
	for range 100 {
		refuse("/smbd", "/afpd")
	}
	check(1, 1, 0)
	c.pass(r, refusalPause)
	refuse("/afpd")
	check(3, 100, 101)
	refuse("/smbd", "/afpd")
	check(3, 100, 101)
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	check(5, 101, 102)
}
