package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each way in which a past can end, and what a floor below, within and above its numbers does to the next run.
func TestTheFirstNumberIsGreaterThanTheFloorAndTheJumpIsExplained(t *testing.T) {
	for _, past := range []struct {
		name string
		make func(t *testing.T, dir string)
	}{
		{"no log", func(t *testing.T, dir string) {}},
		{"stopped", func(t *testing.T, dir string) {
			l := openLog(t, Config{Dir: dir, FS: fast})
			must(t, l, grant("/srv/a"))
			must(t, l, &Record{Event: EventStop})
			closeLog(t, l)
		}},
		{"killed", func(t *testing.T, dir string) {
			l := openLog(t, Config{Dir: dir, FS: fast})
			putRec(t, l, grant("/srv/a"), true)
			l.kill()
		}},
		{"torn", func(t *testing.T, dir string) {
			l := openLog(t, Config{Dir: dir, FS: fast})
			putRec(t, l, grant("/srv/a"), true)
			name := l.Health().Segment
			l.kill()
			appendTo(t, filepath.Join(dir, name), "\x00\x00")
		}},
		{"emptied", func(t *testing.T, dir string) {
			l := openLog(t, Config{Dir: dir, FS: fast})
			putRec(t, l, grant("/srv/a"), true)
			l.kill()
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		for _, floor := range []uint64{0, 1, 3, 4, 5, 1 << 20, 1<<20 + 1, 1<<20 + 2, 1 << 40, maxFloor} {
			t.Run(fmt.Sprintf("%s, floor %d", past.name, floor), func(t *testing.T) {
				dir := t.TempDir() + "/audit"
				past.make(t, dir)
				had := uint64(0)
				if len(segmentFiles(t, dir)) > 0 {
					rep, err := Verify(dir)
					if err != nil {
						t.Fatal(err)
					}
					had = rep.Last
				}
				l := openLog(t, Config{Dir: dir, FS: fast, Floor: floor})
				first := l.Health().Seq
				token := putRec(t, l, grant("/srv/next"), true)
				must(t, l, &Record{Event: EventStop})
				state := l.State()
				closeLog(t, l)
				var head, recovered *Record
				for _, r := range recordsIn(t, dir) {
					switch {
					case r.Event == EventCheckpoint:
						head = &r
					case r.Event == EventRecovered:
						recovered = &r
					}
				}
				if head.Seq <= max(had, floor) || token <= first {
					t.Fatalf("it begins with %d after %d", head.Seq, had)
				}
				jumped := head.Seq > had+1
				switch {
				case jumped && (recovered == nil || recovered.First != had+1 || recovered.Last != head.Seq-1):
					t.Errorf("from %d to %d: recovered %+v", had, head.Seq, recovered)
				case !jumped && recovered != nil && recovered.First != 0:
					t.Errorf("no jump, and yet %+v", recovered)
				}
				if alone := jumped && (past.name == "no log" || past.name == "stopped" || past.name == "emptied"); alone &&
					(recovered.Code != codeFloor || !strings.Contains(recovered.Text, fmt.Sprint(floor))) {
					t.Errorf("recovered %+v", recovered)
				}
				if rep := verifyClean(t, dir); jumped != (len(rep.Notes) > 0) && past.name != "torn" {
					t.Errorf("verify: %+v", rep.Notes)
				}
				// And the run after it goes on from there without one.
				l = openLog(t, Config{Dir: dir, FS: fast})
				sameState(t, "the next run", l.Replayed(), state)
				if !l.Clean() || l.Health().Seq <= token {
					t.Errorf("clean %v, %d after %d", l.Clean(), l.Health().Seq, token)
				}
				closeLog(t, l)
				verifyClean(t, dir)
			})
		}
	}
	if _, err := Open(Config{Dir: t.TempDir() + "/audit", GID: -1, Floor: maxFloor + 1}); err == nil {
		t.Error("a floor that leaves no numbers is taken")
	}
}

// A checkpoint, a rotation and a full disk come before nobody's explanation of the jump is on file.
func TestAFloorOutlivesADiskThatIsFullAtTheStart(t *testing.T) {
	dir := t.TempDir() + "/audit"
	f := &faulty{kind: enospc}
	f.fromNow()
	l := openLog(t, Config{Dir: dir, Floor: 5000, FS: f.wrap})
	if l.Health().Err == nil {
		t.Fatal("the disk is not full")
	}
	start := must(t, l, &Record{Event: EventStart})
	if start <= 5000 {
		t.Fatalf("it begins with %d", start)
	}
	f.heal()
	until(t, "healed", func() bool { return l.Health().Err == nil })
	if id := putRec(t, l, grant("/srv/a"), true); id <= 5000 {
		t.Errorf("token %d", id)
	}
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	if rep := verifyClean(t, dir); len(rep.Notes) != 1 {
		t.Errorf("%+v", rep)
	}
}

// appendTo writes at the end of a file.
func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
