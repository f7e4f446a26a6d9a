package audit

import "testing"

func TestWhatHasBecomeOfAHoldsFilesIsKeptUntilItEnds(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir})
	a, b := putRec(t, l, grant("/srv/a"), false), putRec(t, l, grant("/srv/b"), false)
	empty := l.State().size
	must(t, l, &Record{Event: EventAltered, ID: a, Path: "/srv/a", Count: 1, Text: "bands/1"})
	last := &Record{Event: EventAltered, ID: a, Path: "/srv/a", Count: 5, Text: "bands/\xff\n", Missed: true}
	must(t, l, last)
	want := Alteration{Count: 5, Last: "bands/\xff\n", At: last.Time, Missed: true}
	for round := range 3 { // the first of the records, then of a checkpoint
		for id, want := range map[uint64]Alteration{a: want, b: {}} {
			if h, ok := l.State().Get(id); !ok || h.Alteration != want {
				t.Errorf("round %d, hold %d: %+v %v, want %+v", round, id, h.Alteration, ok, want)
			}
		}
		must(t, l, &Record{Event: EventStop})
		closeLog(t, l)
		l = openLog(t, Config{Dir: dir})
	}
	must(t, l, &Record{Event: EventResume, ID: a, Path: "/srv/a", Mode: "exclusive"})
	if h, _ := l.State().Get(a); h.Alteration != want {
		t.Errorf("after a resume: %+v", h.Alteration)
	}
	s := l.State().clone()
	must(t, l, &Record{Event: EventAltered, ID: a, Path: "/srv/a", Count: 6, Text: "bands/2"})
	if id := l.State().differs(s); id != a {
		t.Errorf("hold %d differs from before, want %d", id, a)
	}
	must(t, l, &Record{Event: EventLost, ID: a})
	must(t, l, &Record{Event: EventCleared, ID: a})
	must(t, l, release(b))
	if s = l.State(); len(s.altered) != 0 || s.size != 0 || empty == 0 {
		t.Errorf("all have ended, and %d are known, of %d bytes", len(s.altered), s.size)
	}
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	verifyClean(t, dir)
}
