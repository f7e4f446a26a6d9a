package audit

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// worker does what a broker does with a log that may fail.
type worker struct {
	t        *testing.T
	l        *Log
	said     map[uint64]string // events whose Commit returned nil
	tokens   []uint64
	refused  int
	failed   int
	releases int
}

func (w *worker) grantAndRelease(n int) {
	w.t.Helper()
	r := grant(fmt.Sprintf("/srv/%d", n))
	if n%4 == 1 {
		r.Life, r.Session, r.Request, r.Tag, r.Expires = "attached", 7, uint32(n), "", time.Time{}
	}
	id, err := w.l.Append(r)
	switch {
	case errors.Is(err, ErrFull), errors.Is(err, ErrFailed):
		w.refused++
	case err != nil:
		w.t.Fatalf("append grant: %v", err)
	default:
		w.tokens = append(w.tokens, id)
		if err := w.l.Commit(id, n%2 == 0); err != nil {
			w.failed++
			w.release(id) // the claim is undone
		} else {
			w.said[id] = string(EventGrant)
		}
	}
	if n%3 == 2 {
		if holds := w.l.State().Holds(); len(holds) > 0 {
			w.release(holds[0].Grant.ID)
		}
	}
	if holds := w.l.State().Holds(); n%7 == 6 && len(holds) > 0 {
		last := &holds[len(holds)-1].Grant
		if seq, err := w.l.Append(&Record{Event: EventResume, ID: last.ID, Gap: 1}); err != nil {
			w.t.Fatalf("append resume of %d: %v", last.ID, err)
		} else if err := w.l.Commit(seq, false); err == nil {
			w.said[seq] = string(EventResume)
		}
	}
	if n%5 == 0 {
		if seq, err := w.l.Append(&Record{Event: EventDeny, Path: "/srv/x"}); err != nil {
			w.t.Fatalf("append deny: %v", err)
		} else if err := w.l.Commit(seq, false); err == nil && seq != 0 {
			w.said[seq] = string(EventDeny)
		}
	}
}

// release always works; only its record may come later, or be missing.
func (w *worker) release(id uint64) {
	w.t.Helper()
	w.releases++
	seq, err := w.l.Append(release(id))
	if err != nil {
		w.t.Fatalf("append release of %d: %v", id, err)
	}
	if err := w.l.Commit(seq, false); err == nil {
		w.said[seq] = string(EventRelease)
	}
}

// check compares with what is on file.
func (w *worker) check(dir string) {
	w.t.Helper()
	on := map[uint64]string{}
	for _, r := range recordsIn(w.t, dir) {
		on[r.Seq] = string(r.Event)
	}
	for seq, event := range w.said {
		if on[seq] != event {
			w.t.Fatalf("commit of %s %d returned nil, on file is %q", event, seq, on[seq])
		}
	}
	if !slices.IsSorted(w.tokens) {
		w.t.Fatalf("tokens %v", w.tokens)
	}
}

const faultRounds = 30

func TestNoFaultAtAnyCallLosesAnAnsweredRecord(t *testing.T) {
	type span struct {
		name string
		len  int
	}
	for _, kind := range []faultKind{eio, enospc, short, syncLost} {
		for _, length := range []span{{"once", 1}, {"three times", 3}, {"for a while", 40}, {"until healed", 1 << 30}} {
			t.Run(string(kind)+" "+length.name, func(t *testing.T) {
				hits, rng := 0, seedOf(t)
				for k := 1; ; k++ {
					f := &faulty{kind: kind, from: k, to: k + length.len - 1}
					calls := runFaulty(t, f, k)
					if t.Failed() {
						t.Fatalf("call %d: %v", k, f)
					}
					hits += f.hits
					if k > calls {
						break
					}
					k += rng.IntN(stride(8))
				}
				if hits == 0 && !testing.Short() {
					t.Error("nothing failed")
				}
			})
		}
	}
}

// runFaulty works, heals, works on, and reads what is on file. It returns how many calls there were.
func runFaulty(t *testing.T, f *faulty, k int) (calls int) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir() + "/audit"
		l, err := Open(Config{Dir: dir, GID: -1, SegmentSize: 13 << 10, FS: f.wrap})
		if err != nil {
			// Refused at the start is fine: lockerd is started again.
			f.heal()
			if l, err = Open(Config{Dir: dir, GID: -1, SegmentSize: 13 << 10, FS: f.wrap}); err != nil {
				t.Fatalf("open after %v: %v", f, err)
			}
		}
		w := &worker{t: t, l: l, said: map[uint64]string{}}
		for n := range faultRounds {
			w.grantAndRelease(n)
			if n%10 == 9 {
				<-time.After(2 * retryEvery) // in the bubble: the background has its turn
			}
		}
		f.heal()
		for l.Health().Err != nil {
			<-time.After(retryEvery)
		}
		before := w.refused + w.failed
		for n := range 3 {
			w.grantAndRelease(n)
		}
		if w.refused+w.failed != before {
			t.Fatalf("a healthy log refuses grants after %v", f)
		}
		stop := must(t, l, &Record{Event: EventStop})
		if err := l.Commit(stop, true); err != nil {
			t.Fatalf("commit stop: %v", err)
		}
		calls = f.made()
		state := l.State()
		closeLog(t, l)
		w.check(dir)
		sameState(t, fmt.Sprintf("replay after %v", f), replayAll(t, dir), state)
		rep := verifyClean(t, dir)
		if !rep.Clean || rep.Last != stop {
			t.Fatalf("after %v: %+v", f, rep)
		}
		l, err = Open(Config{Dir: dir, GID: -1, FS: fast})
		if err != nil {
			t.Fatalf("open after %v: %v", f, err)
		}
		sameState(t, fmt.Sprintf("open after %v", f), l.Replayed(), state)
		closeLog(t, l)
	})
	return calls
}

func TestAKillWhileTheDiskFailsLosesNoAnsweredRecord(t *testing.T) {
	for _, kind := range []faultKind{eio, enospc, short} {
		for k := 1; k < 260; k += stride(7) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir() + "/audit"
				f := &faulty{kind: kind, from: k, to: 1 << 30}
				l, err := Open(Config{Dir: dir, GID: -1, SegmentSize: 13 << 10, FS: f.wrap})
				if err != nil {
					return
				}
				w := &worker{t: t, l: l, said: map[uint64]string{}}
				for n := range faultRounds {
					w.grantAndRelease(n)
				}
				l.kill()
				l, err = Open(Config{Dir: dir, GID: -1, FS: fast})
				if err != nil {
					t.Fatalf("open after %v: %v\n%s", f, err, dump(dir))
				}
				seq := must(t, l, grant("/srv/next"))
				if len(w.tokens) > 0 && seq <= slices.Max(w.tokens) {
					t.Fatalf("token %d after %d", seq, slices.Max(w.tokens))
				}
				closeLog(t, l)
				w.check(dir)
				verifyClean(t, dir)
			})
		}
	}
}
