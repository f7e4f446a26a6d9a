package broker

import (
	"os"
	"slices"
	"testing"

	"locker/audit"
	"locker/wire"
)

// inPart gives a client that has come back to a lockerd that was started again: the one before was killed when it had granted it the first
// file of the set that it asks for with the number id.
func inPart(r *rig, s *shelf, first *wire.Lock) (p *peer, id uint32, part uint64) {
	r.t.Helper()
	p = r.dial2()
	id = p.send(first) // as if it were of the set, and the rest had not come to it
	part = grants(r.t, p.answer(id))[0].ID
	s.crash()
	s.back()
	p.resumed(r)
	return p, id, part
}

// lives are the two kinds of locks that a set can be asked for as.
var lives = map[string]func(...string) *wire.Lock{
	"attached": attached, "detached": detached,
	"tagged": func(paths ...string) *wire.Lock { m := detached(paths...); m.Tag = "nightly"; return m },
}

// A set that was not granted whole was not granted, in whatever way what is left of it is refused.
func TestNothingOfASetIsHeldHoweverTheRestIsRefused(t *testing.T) {
	refusals := map[string]struct {
		code wire.Code
		bad  func(r *rig, c *changing, rest string)
	}{
		"it is in use": {wire.CodeBusy, func(r *rig, _ *changing, rest string) {
			r.dial2().granted(attached(rest))
		}},
		"it cannot be opened": {wire.CodeUnsupported, func(r *rig, _ *changing, rest string) {
			must(r.t, os.Remove(rest))
			must(r.t, os.Symlink("elsewhere", rest))
		}},
		"the policy denies it by now": {wire.CodeDenied, func(r *rig, c *changing, _ string) {
			_, err := c.to(r, policyFor("[[deny]]\nname = \"closed\"\nusers = [\"*\"]\npaths = [\"FILES/b\"]\n", "/a", "/b"))
			must(r.t, err)
		}},
	}
	for why, how := range refusals {
		for life, lock := range lives {
			t.Run(why+", "+life, func(t *testing.T) {
				var c changing
				r, s := withKeeper(t, c.drive(policyFor("", "/a", "/b")))
				r.dirs("/a", "/b")
				a, b := r.file("a/x"), r.file("b/x")
				p, id, part := inPart(r, s, lock(a))
				next := r.dial2()
				waits := next.send(attached(a))
				next.queued(waits)
				how.bad(r, &c, b)
				p.repeat(id, try(lock(a, b)))
				if e := asError(t, p.answer(id)); e.Code != how.code {
					t.Fatalf("%+v", e)
				}
				grants(t, next.answer(waits)) // who waits for the part is woken
				if gone := r.records(audit.EventRelease); len(gone) != 1 || gone[0].ID != part || gone[0].Path != a {
					t.Errorf("released %+v, want %d alone", gone, part)
				}
				r.checkReplay()
			})
		}
	}
}

func TestNothingOfASetIsHeldWhoseRestCannotBeRecorded(t *testing.T) {
	for life, lock := range lives {
		t.Run(life, func(t *testing.T) {
			var disk faulty
			r, s := withKeeper(t, disk.drive)
			a, b := r.file("a"), r.file("b")
			p, id, _ := inPart(r, s, lock(a))
			disk.writes.Store(true)
			p.repeat(id, lock(a, b))
			if e := asError(t, p.answer(id)); e.Code != wire.CodeUnavailable {
				t.Fatalf("%+v", e)
			}
			if !isFree(t, a) || !isFree(t, b) {
				t.Error("something of it is held")
			}
			disk.writes.Store(false)
			eventually(t, "grants are made again", func() bool {
				_, ok := p.answer(p.send(try(lock(a, b)))).(*wire.Granted)
				return ok
			})
			r.checkReplay()
		})
	}
}

// What waits holds nothing: neither while it waits for others, nor while a file of it cannot be opened yet.
func TestNothingOfASetIsHeldWhileItWaits(t *testing.T) {
	for life, lock := range lives {
		t.Run(life, func(t *testing.T) {
			r, s := withKeeper(t, nil)
			a, b := r.file("a"), r.file("b")
			p, id, part := inPart(r, s, lock(a))
			lease := startChild(t, "lease", b)
			p.repeat(id, lock(a, b))
			p.queued(id)
			q := r.dial2()
			first := q.granted(try(attached(a)))
			lease.end()
			p.until(func(got uint32, m wire.Message) bool { // it has found out that a is taken
				w, ok := m.(*wire.Queued)
				return ok && got == id && len(w.Blockers) > 0
			})
			q.answer(q.send(&wire.Unlock{By: wire.ByID, ID: first[0].ID}))
			got := grants(t, p.answer(id))
			if got[0].ID <= part || got[0].Already || got[1].Already {
				t.Errorf("%+v, of which %d was let go", got, part)
			}
			r.checkReplay()
		})
	}
}

// What of a set its owner had before is no part that is missing, and none that is let go.
func TestASetOfWhichItsOwnerHadAFileBeforeHasTheAnswerThatGotLost(t *testing.T) {
	for life, lock := range lives {
		t.Run(life, func(t *testing.T) {
			r, s := withKeeper(t, nil)
			a, b, c := r.file("a"), r.file("b"), r.file("c")
			p := r.dial2()
			had := p.granted(lock(a))
			id := p.send(lock(a, b))
			want := grants(t, p.answer(id))
			if !want[0].Already || want[0].ID != had[0].ID || want[1].Already {
				t.Fatalf("%+v", want)
			}
			s.crash()
			s.back()
			p.resumed(r)
			p.repeat(id, lock(a, b))
			if got := grants(t, p.answer(id)); !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if gone := r.records(audit.EventRelease); len(gone) > 0 {
				t.Errorf("let go: %+v", gone)
			}
			s.crash() // and this time as if c of a, b and c had not been granted
			s.back()
			p.resumed(r)
			q := r.dial2()
			q.granted(attached(c))
			p.repeat(id, try(lock(a, b, c)))
			asError(t, p.answer(id))
			if gone := r.records(audit.EventRelease); len(gone) != 1 || gone[0].ID != want[1].ID {
				t.Errorf("let go: %+v, want %d alone", gone, want[1].ID)
			}
			r.checkReplay()
		})
	}
}

// The number of a Lock that has its answer may be used again. What it was answered is held.
func TestANumberThatIsUsedAgainTakesNothingAway(t *testing.T) {
	r, s := withKeeper(t, nil)
	a, b, c, d := r.file("a"), r.file("b"), r.file("c"), r.file("d")
	p := r.dial2()
	id := p.send(attached(a))
	before := grants(t, p.answer(id))
	reads := p.send(reader(attached(d)))
	grants(t, p.answer(reads))
	s.crash()
	s.back()
	p.resumed(r)
	q := r.dial2()
	q.granted(attached(b))
	p.repeat(id, attached(a)) // here its answer comes again
	if got := grants(t, p.answer(id)); !slices.Equal(got, before) {
		t.Fatalf("got %+v, want %+v", got, before)
	}
	p.repeat(id, attached(c))
	since := grants(t, p.answer(id))
	for _, path := range []string{a, c} {
		p.repeat(id, try(attached(path, b)))
		if e := asError(t, p.answer(id)); e.Code != wire.CodeBusy {
			t.Errorf("%+v", e)
		}
	}
	p.repeat(reads, attached(d))
	if e := asError(t, p.answer(reads)); e.Code != wire.CodeConversion {
		t.Errorf("%+v", e)
	}
	if gone := r.records(audit.EventRelease); len(gone) > 0 {
		t.Errorf("let go: %+v, of %d and %d", gone, before[0].ID, since[0].ID)
	}
	r.checkReplay()
}
