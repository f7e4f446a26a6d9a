package audit

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// step appends a random record that can follow, and returns it.
func step(rng *rand.Rand, s *State) *Record {
	paths := []string{"/srv/a", "/srv/b\xff", "/srv/\u202e\n", "/srv/tm/x.sparsebundle"}
	some := func(holds []Hold) (uint64, bool) {
		if len(holds) == 0 {
			return 0, false
		}
		return holds[rng.IntN(len(holds))].Grant.ID, true
	}
	live, lost := s.Holds(), s.Lost()
	for {
		switch rng.IntN(15) {
		case 14:
			if id, ok := some(live); ok {
				return &Record{Event: EventAltered, ID: id, Count: rng.Uint64N(3), Text: "bands/\xff", Missed: rng.IntN(2) == 0}
			}
		case 0, 1, 2, 3:
			r := grant(paths[rng.IntN(len(paths))])
			r.Peer, r.HasLogin = rng.IntN(2) == 0, rng.IntN(2) == 0
			if !r.Peer {
				r.UID, r.GID = 0, 0
			}
			if !r.HasLogin {
				r.LoginUID = 0
			}
			if rng.IntN(2) == 0 {
				r.Life, r.Session, r.Tag, r.Expires, r.Rests = "attached", rng.Uint64(), "", time.Time{}, nil
			}
			r.Waited, r.Grace, r.Request = time.Duration(rng.IntN(3)), time.Duration(rng.IntN(3)), rng.Uint32N(3)
			return r
		case 4:
			if id, ok := some(live); ok {
				return release(id)
			}
		case 5:
			if id, ok := some(live); ok {
				return &Record{Event: EventExpire, ID: id, Grace: time.Duration(rng.IntN(2))}
			}
		case 6:
			if id, ok := some(live); ok {
				return &Record{Event: EventBreak, ID: id, By: "root", Reason: "because", Grace: time.Duration(rng.IntN(2))}
			}
		case 7:
			if id, ok := some(live); ok {
				return &Record{Event: EventDeath, ID: id}
			}
		case 8:
			if id, ok := some(live); ok {
				return &Record{Event: EventLost, ID: id, Text: "the file is gone"}
			}
		case 9:
			if id, ok := some(lost); ok {
				return &Record{Event: EventCleared, ID: id}
			}
		case 10:
			if id, ok := some(append(live, lost...)); ok {
				r := &Record{Event: EventResume, ID: id, Gap: time.Duration(rng.IntN(2))}
				if rng.IntN(2) == 0 {
					r = grant(paths[rng.IntN(len(paths))])
					r.Event, r.ID, r.Session, r.Request = EventResume, id, rng.Uint64(), rng.Uint32N(3)
				}
				return r
			}
		default:
			e := []Event{EventDeny, EventWait, EventTimeout, EventCancel, EventPolicy, EventStart, EventConnectRefused, EventSuppressed, EventKeeper}
			return &Record{Event: e[rng.IntN(len(e))], Path: paths[rng.IntN(len(paths))], Text: "because", Count: rng.Uint64N(3)}
		}
	}
}

func TestReplayOfTheLogIsTheStateAfterEveryStep(t *testing.T) {
	rng := seedOf(t)
	dir := t.TempDir() + "/audit"
	reopen := func() *Log { return openLog(t, Config{Dir: dir, SegmentSize: 16 << 10}) }
	l := reopen()
	steps := 2000 / stride(5)
	var last uint64
	for n := range steps {
		seq := must(t, l, step(rng, l.State()))
		if seq <= last {
			t.Fatalf("step %d: seq %d after %d", n, seq, last)
		}
		last = seq
		switch rng.IntN(12) {
		case 0: // leave it to a later one
			continue
		case 1:
			want := l.State()
			stop := rng.IntN(2) == 0
			if stop {
				last = must(t, l, &Record{Event: EventStop})
			}
			closeLog(t, l)
			l = reopen()
			sameState(t, fmt.Sprintf("step %d: after a stop", n), l.Replayed(), want)
			sameState(t, fmt.Sprintf("step %d: after a stop, live", n), l.State(), want)
			if l.Clean() != stop {
				t.Fatalf("step %d: clean %v after a stop %v", n, l.Clean(), stop)
			}
		case 2: // SIGKILL
			if err := l.Commit(seq, false); err != nil {
				t.Fatal(err)
			}
			want := l.State()
			l.kill()
			l = reopen()
			sameState(t, fmt.Sprintf("step %d: after a kill", n), l.Replayed(), want)
		default:
			if err := l.Commit(seq, rng.IntN(8) == 0); err != nil {
				t.Fatal(err)
			}
		}
		if n%7 == 0 {
			if err := l.Commit(l.Health().Seq, false); err != nil {
				t.Fatal(err)
			}
			sameState(t, fmt.Sprintf("step %d: from all records", n), replayAll(t, dir), l.State())
		}
	}
	if err := l.Commit(l.Health().Seq, false); err != nil {
		t.Fatal(err)
	}
	rep := verifyClean(t, dir) // beside the running log
	if rep.Holds != l.State().Len() || rep.Last != l.Health().Seq {
		t.Errorf("verify: %d holds, last %d; want %d, %d", rep.Holds, rep.Last, l.State().Len(), l.Health().Seq)
	}
	if rep.Segments < 10 {
		t.Errorf("only %d segments: rotation was not tried", rep.Segments)
	}
}

func TestARecordThatCannotFollowChangesNothing(t *testing.T) {
	l := openLog(t, Config{Dir: t.TempDir() + "/audit"})
	id := must(t, l, grant("/srv/a"))
	lost := must(t, l, grant("/srv/b"))
	must(t, l, &Record{Event: EventLost, ID: lost})
	before, seq := l.State().clone(), l.Health().Seq
	for _, r := range []*Record{
		release(0), release(99), release(lost), {Event: EventDeath, ID: seq}, {Event: EventExpire, ID: 99, Grace: 1}, {Event: EventBreak},
		{Event: EventLost, ID: lost}, {Event: EventCleared, ID: id}, {Event: EventResume, ID: 99}, {Event: EventResume, ID: 99, Path: "/x"}, {Event: EventResume},
		{Event: EventAltered, ID: 99, Count: 1}, {Event: EventAltered, ID: lost, Count: 1}, {Event: EventAltered, Count: 1},
		{Event: EventHeld, ID: 1, Path: "/x"}, {Event: EventCheckpoint}, {Event: EventRotate}, {Event: EventGap}, {Event: EventRecovered}, {Event: ""}, {Event: "granted"},
	} {
		if _, err := l.Append(r); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
	sameState(t, "after refused records", l.State(), before)
	next := putRec(t, l, release(id), true)
	if next != seq+1 {
		t.Errorf("next seq %d, want %d", next, seq+1)
	}
	verifyClean(t, l.dir.path)
}

func TestAHoldKeepsItsGrantThroughCheckpoints(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir})
	r := grant("/srv/\xffa")
	r.Session, r.Request = 1<<53-1, 1<<32-1
	id := putRec(t, l, r, true)
	ending := putRec(t, l, grant("/srv/b"), false)
	must(t, l, &Record{Event: EventBreak, ID: ending, Grace: time.Second})
	want, _ := l.State().Get(id)
	if want.Grant.Time != r.Time || want.Grant.Boot != r.Boot || want.Grant.Seq != id || want.Grant.Path != r.Path || want.Grant.Request != r.Request || want.Ending {
		t.Fatalf("got %+v of %+v", want, r)
	}
	for range 3 {
		must(t, l, &Record{Event: EventStop})
		closeLog(t, l)
		l = openLog(t, Config{Dir: dir})
	}
	got, ok := l.Replayed().Get(id)
	if !ok || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if h, ok := l.Replayed().Get(ending); !ok || !h.Ending {
		t.Errorf("the ending hold: %+v %v", h, ok)
	}
}
