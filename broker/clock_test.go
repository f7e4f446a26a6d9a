package broker

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

// clocks are both that a machine has. The wall clock can be set; the other one counts from the boot.
type clocks struct {
	mu   sync.Mutex
	wall time.Time
	boot time.Duration
}

func (c *clocks) drive(r *rig) {
	c.wall, c.boot = time.Date(2026, 11, 27, 2, 10, 0, 0, time.UTC), 9*time.Hour
	r.alter = func(l *audit.Config, config *Config) {
		config.Now, config.Boot = c.now, c.since
		l.Now, l.Boot = c.now, c.since
	}
}

func (c *clocks) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

func (c *clocks) since() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

// pass lets time pass, for a broker that runs.
func (c *clocks) pass(r *rig, d time.Duration) {
	c.mu.Lock()
	c.wall, c.boot = c.wall.Add(d), c.boot+d
	c.mu.Unlock()
	r.b.poke()
}

// set sets the wall clock by so much, forward or back.
func (c *clocks) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(by)
}

// restart is a new boot.
func (c *clocks) restart(after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.boot = c.wall.Add(after), time.Minute
}

const year = 365 * 24 * time.Hour

func TestAWallClockThatIsSetByAYearNeitherEndsALeaseNorProlongsIt(t *testing.T) {
	for _, step := range []time.Duration{year, -year} {
		for name, between := range map[string]func(r *rig, s *shelf, set func()){
			"while lockerd runs":   func(_ *rig, _ *shelf, set func()) { set() },
			"while no broker runs": func(_ *rig, s *shelf, set func()) { s.crash(); set(); s.back() },
			"while neither runs":   func(_ *rig, s *shelf, set func()) { s.crash(); s.end(); set(); s.start(); s.back() },
			"before both die":      func(_ *rig, s *shelf, set func()) { set(); s.crash(); s.end(); s.start(); s.back() },
			"while neither runs, twice over": func(_ *rig, s *shelf, set func()) {
				s.crash()
				s.end()
				set()
				s.start()
				s.back()
				s.leave()
				s.back()
			},
		} {
			t.Run(name, func(t *testing.T) {
				var c clocks
				r, s := withKeeper(t, c.drive)
				path := r.file("a")
				m := detached(path)
				m.TTL = time.Hour
				id := r.dial2().granted(m)[0].ID
				c.pass(r, 10*time.Minute)
				between(r, s, func() { c.set(step) })
				c.pass(r, 50*time.Minute-1)
				r.b.endDue(t.Context())
				p := r.dial2()
				if g := p.granted(m); !g[0].Already || g[0].ID != id || isFree(t, path) {
					t.Fatalf("%v: a nanosecond before its end: %+v", step, g)
				}
				c.pass(r, 1)
				eventually(t, "its end", func() bool { return isFree(t, path) })
				var ends []audit.Record
				eventually(t, "its record, which is written when the lock is free", func() bool {
					ends = r.records(audit.EventExpire)
					return len(ends) > 0
				})
				if len(ends) != 1 || ends[0].ID != id || ends[0].Held != time.Hour {
					t.Errorf("%v: %+v", step, ends)
				}
				if g := p.granted(attached(path)); g[0].ID <= id {
					t.Errorf("token %d after %d", g[0].ID, id)
				}
				r.checkReplay()
			})
		}
	}
}

// What is held since before the machine was started is as well kept as anything else: by the keeper, in the log, and by its lease.
func TestAHoldOfAnEarlierBootOutlivesTheLogAndTheBroker(t *testing.T) {
	var c clocks
	r, s := withKeeper(t, c.drive)
	plain, leased := detached(r.file("plain")), detached(r.file("leased"))
	leased.TTL = 24 * time.Hour
	p := r.dial2()
	ids := []uint64{p.granted(plain)[0].ID, p.granted(leased)[0].ID}
	c.pass(r, 12*time.Hour)
	s.crash()
	s.end()
	s.boot = "fedcba9876543210fedcba9876543210"
	c.restart(time.Hour)
	s.start()
	s.back()
	check := func(what string) {
		t.Helper()
		p := r.dial2()
		for i, m := range []*wire.Lock{plain, leased} {
			if g := p.granted(m); !g[0].Already || g[0].ID != ids[i] {
				t.Errorf("%s: %+v, want id %d", what, g, ids[i])
			}
		}
	}
	check("after the boot")
	s.crash()
	s.back()
	check("after a crash")
	s.crash()
	s.end()
	s.start()
	c.set(year)
	s.back()
	check("after the death of both")
	c.set(-year)
	s.crash()
	must(t, os.RemoveAll(filepath.Join(r.dir, "audit")))
	s.back()
	check("after the loss of the log")
	c.pass(r, 11*time.Hour-time.Second)
	r.b.endDue(t.Context())
	check("a second before its end")
	c.pass(r, time.Second)
	eventually(t, "the lease's end", func() bool { return isFree(t, leased.Paths[0]) })
	if isFree(t, plain.Paths[0]) {
		t.Error("the other one has ended, too")
	}
	r.checkReplay()
}
