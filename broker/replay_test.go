package broker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

// quiet waits until nobody is at work: every request waits, in a queue or for an outsider.
func (w *world) quiet() {
	w.r.t.Helper()
	for _, a := range w.actors { // what was said before has been read when this is answered
		a.say(&wire.Status{})
		eventually(w.r.t, "a client is heard", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.heard == a.p.next
		})
	}
	eventually(w.r.t, "the broker is quiet", func() bool {
		w.r.b.endDue(w.r.t.Context())
		b := w.r.b
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.sessions) != len(w.actors) {
			return false
		}
		for _, s := range b.sessions {
			for _, q := range s.requests {
				if q.phase != phaseQueued && !q.isOutside {
					return false
				}
			}
		}
		for _, h := range b.table.allHolds() {
			if h.info.releasing {
				return false
			}
		}
		return true
	})
}

// check holds the log against the table, and the table against the kernel.
func (w *world) check() {
	w.r.t.Helper()
	w.quiet()
	w.r.checkReplay()
	b := w.r.b
	b.mu.Lock()
	held := map[key]bool{}
	for _, h := range b.table.allHolds() {
		held[h.key] = true
		for _, other := range b.table.holdsOf(h.key) {
			if other != h && (h.mode == exclusive || other.mode == exclusive) {
				w.r.t.Errorf("holds %d and %d exclude each other", h.id, other.id)
			}
		}
	}
	asked := b.table.countAllWaiting() + b.table.asked
	b.mu.Unlock()
	for _, path := range w.files {
		var st unix.Stat_t
		if unix.Stat(locked(path), &st) != nil {
			continue
		}
		is := held[key{st.Dev, st.Ino}]
		if free := isFree(w.r.t, locked(path)); free == is && (is || w.outside[path] == nil && asked == 0) {
			w.r.t.Errorf("%s: free %v, in the table %v", path, free, is)
		}
	}
	for _, a := range w.actors {
		a.mu.Lock()
		if a.wrong != "" {
			w.r.t.Error(a.wrong)
		}
		a.mu.Unlock()
	}
}

func TestTheLogReplaysToTheTableWhateverHappens(t *testing.T) {
	seeds := []uint64{1, 2, 3, uint64(time.Now().UnixNano())}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("seed %d", seed)
			w := &world{rand: rand.New(rand.NewPCG(seed, 0)), outside: map[string]*os.File{}}
			w.run(t, 600)
		})
	}
}

func (w *world) run(t *testing.T, steps int) {
	began := time.Now()
	w.r = newRig(t, func(r *rig) {
		limited("holds = 200\nwaiters = 50")(r)
		r.policy = rules(r.files, "allow = [\"FILES\"]\n[[rule]]\nname = \"all\"\nusers = [\"*\"]\npaths = [\"FILES\"]\ncan = [\"lock\", \"lock-shared\", \"list\", \"break\"]\n")
		r.segment = 64 << 10 // so that it turns several times
		w.clock.drive(r)
		clock := r.alter
		r.alter = func(l *audit.Config, c *Config) {
			clock(l, c)
			c.Now = func() time.Time { return began.Add(w.clock.read()) }
		}
	})
	for i := range 6 {
		w.files = append(w.files, w.r.file(fmt.Sprint("f", i)))
	}
	w.files = append(w.files, w.r.bundle("b.sparsebundle", "token", "bands/"))
	for range 5 {
		w.actors = append(w.actors, w.join())
	}
	for i := range steps {
		w.step()
		w.r.checkReplay() // holds at every moment, not in quiet ones alone
		if i%25 == 24 {
			w.check()
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	w.check()

	// A stop and a start: the detached holds whose files are there are held again, under their old numbers.
	for path, f := range w.outside {
		f.Close()
		delete(w.outside, path)
	}
	for _, a := range w.actors {
		a.p.conn.Close()
	}
	w.readers.Wait()
	w.actors = nil
	w.quiet()
	type had struct {
		id  uint64
		key key
	}
	var before, after []had
	w.r.b.mu.Lock()
	for _, h := range w.r.b.table.allHolds() {
		var st unix.Stat_t
		f := h.info.file.Target
		if unix.Stat(f, &st) == nil && (key{st.Dev, st.Ino}) == h.key {
			before = append(before, had{h.id, h.key})
		}
	}
	all := len(w.r.b.table.allHolds())
	w.r.b.mu.Unlock()
	w.r.halt()
	w.r.start()
	t.Cleanup(w.r.halt)
	w.r.checkReplay()
	w.r.b.mu.Lock()
	for _, h := range w.r.b.table.allHolds() {
		after = append(after, had{h.id, h.key})
	}
	lost := len(w.r.b.lost)
	w.r.b.mu.Unlock()
	if !slices.Equal(before, after) || len(after)+lost < all {
		t.Errorf("before the stop %v (and %d stale), after the start %v (and %d lost)", before, all-len(before), after, lost)
	}
}
