package broker

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// Each law here was once broken.

func TestAClaimDoesNotSpinWhileAHoldOfItsOwnerIsInItsGrace(t *testing.T) {
	r := newRig(t, nil)
	a, c := r.file("a"), r.file("c")
	f := outsideLock(t, c)
	p, root := r.dial(), r.dial()
	first := attached(a)
	first.Grace = wire.MaxGrace
	g := p.granted(first)
	id := p.send(attached(a, c)) // a is covered by the hold, c is waited for
	p.queued(id)
	if _, ok := root.answer(root.send(&wire.Break{By: wire.ByID, ID: g[0].ID, Reason: "test"})).(*wire.Released); !ok {
		t.Fatal("not broken")
	}
	p.lost()
	f.Close() // now only the hold in its grace is in the way
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	if again := grants(t, p.answer(id)); again[0].Already || again[0].ID == g[0].ID {
		t.Errorf("the hold in its grace was given out again: %+v", again)
	}
	r.checkReplay()
}

func TestWaitsOfOneFileByManyNamesAreRecordedOnceAndRated(t *testing.T) {
	var frozen atomic.Int64 // the boot clock; 0: it goes
	r := newRig(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) {
			c.Boot = func() time.Duration {
				if at := frozen.Load(); at != 0 {
					return time.Duration(at)
				}
				return bootTime()
			}
		}
	})
	path := r.file("a")
	p, q := r.dial(), r.dial()
	p.granted(attached(path))
	frozen.Store(int64(bootTime()))
	burst := waitsPerDenial * authz.DefaultLimits().DenialBurst
	for range burst + 10 {
		id := q.send(attached(slices.Repeat([]string{path}, wire.MaxPaths)...))
		q.queued(id)
		q.answer(q.send(&wire.Cancel{Target: id}))
		q.answer(id)
	}
	if waits := r.records(audit.EventWait); len(waits) != burst {
		t.Errorf("%d records of %d waits of one file; want %d", len(waits), burst+10, burst)
	}
	frozen.Store(0)
	eventually(t, "what was left out is counted", func() bool {
		recs := r.records(audit.EventSuppressed)
		return len(recs) == 1 && recs[0].Count == 10
	})
}

func TestAReloadUnderWayAtTheStopRecordsBeforeIt(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	r := newRig(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) {
			inner := c.Reload
			c.Reload = func() (*authz.Policy, error) {
				if !first.Swap(true) {
					close(in)
					<-out
				}
				return inner()
			}
		}
	})
	done := make(chan struct{})
	go func() { defer close(done); r.b.Reload(context.Background()) }()
	<-in
	r.stop()
	close(out)
	<-done
	r.halt()
	log, err := audit.Open(audit.Config{Dir: filepath.Join(r.dir, "audit"), SegmentSize: 1 << 20, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if !log.Clean() {
		t.Error("records follow the stop record")
	}
}

func TestAReloadBindsWhatWasOpenedBeforeIt(t *testing.T) {
	var strict atomic.Bool
	r := newRig(t, func(r *rig) {
		files := r.files
		r.policy = func() (*authz.Policy, error) {
			hardlinks := "hardlinks = true\n"
			if strict.Load() {
				hardlinks = ""
			}
			return rules(files, "allow = [\"FILES\"]\n[[rule]]\nname = \"all\"\nusers = [UID]\npaths = [\"FILES\"]\n"+hardlinks+"can = [\"lock\"]\n")()
		}
	})
	a := r.file("a")
	if err := os.Link(a, filepath.Join(r.files, "second")); err != nil {
		t.Fatal(err)
	}
	p, q := r.dial(), r.dial()
	g := p.granted(attached(a))
	id := q.send(attached(a))
	q.queued(id)
	strict.Store(true)
	if _, err := r.b.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	if e := asError(t, q.answer(id)); e.Code != wire.CodeUnsupported {
		t.Errorf("%+v", e)
	}
}

func TestALeaseDoesNotGrowWithTheWallClock(t *testing.T) {
	var ahead atomic.Int64
	r := newRig(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		}
	})
	m := detached(r.file("a"))
	m.TTL = time.Hour
	r.dial().granted(m)
	r.halt()
	ahead.Store(int64(-365 * 24 * time.Hour)) // no battery: the box wakes up in the past
	r.start()
	t.Cleanup(r.halt)
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	holds := r.b.table.allHolds()
	if len(holds) != 1 {
		t.Fatalf("%d holds", len(holds))
	}
	if left := holds[0].info.due.at - r.b.boot(); left > time.Hour {
		t.Errorf("a lease of 1 h has %v to go", left)
	}
}

func TestAHoldTakenBackSaysWhatItRestsOnNow(t *testing.T) {
	r := newRig(t, nil)
	a := r.file("a")
	id := r.dial().granted(detached(a))[0].ID
	r.halt()
	if err := os.Chmod(a, 0o700); err != nil { // executable: flock alone
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(r.halt)
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	kept, ok := r.log.State().Get(id)
	if h := r.b.table.byID(id); !ok || h == nil || !slices.Equal(kept.Grant.Rests, []string{"flock"}) || h.info.rests != wire.RestFlock {
		t.Errorf("log %q, hold %+v", kept.Grant.Rests, h)
	}
}

func TestAWaitForAHolderOutsideFollowsTheName(t *testing.T) {
	r := newRig(t, nil)
	a := r.file("a")
	outsideLock(t, a) // for the whole test, on what will be the old file
	p := r.dial()
	id := p.send(attached(a))
	p.queued(id)
	if err := os.Rename(r.file("n"), a); err != nil {
		t.Fatal(err)
	}
	grants(t, p.answer(id))
	if isFree(t, a) {
		t.Error("the new file is free")
	}
}

func TestADenialSaysInTheLogWhatDecided(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.policy = rules(r.files, "allow = [\"FILES\"]\n[[deny]]\nname = \"no archive\"\nusers = [\"*\"]\npaths = [\"FILES/archive\"]\n[[rule]]\nname = \"all\"\nusers = [UID]\npaths = [\"FILES\"]\ncan = [\"lock\"]\n")
	})
	if e := r.dial().refused(attached(filepath.Join(r.files, "archive"))); strings.Contains(e.Text, "no archive") {
		t.Errorf("the client learns the name of the rule: %q", e.Text)
	}
	recs := r.records(audit.EventDeny)
	if len(recs) != 1 || recs[0].Rule != "no archive" || recs[0].Text != authz.WhyDeny.String() {
		t.Errorf("%+v", recs)
	}
}

func TestABreakIsRecordedWithTheHolderAndWhoBrokeIt(t *testing.T) {
	r := newRig(t, nil)
	a := r.file("a")
	id := r.dial().granted(detached(a))[0].ID
	p := r.dial()
	p.answer(p.send(&wire.Break{By: wire.ByID, ID: id, Reason: "stuck"}))
	recs := r.records(audit.EventBreak)
	if len(recs) != 1 || recs[0].ID != id || recs[0].By != "me" || recs[0].Reason != "stuck" || recs[0].Ino == 0 || len(recs[0].Rests) != 2 {
		t.Errorf("%+v", recs)
	}
}
