package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Somebody removes the newest segments while no lockerd runs, or before a lockerd that is killed could notice. What is left
// ends like a log whose last run was killed, or even stopped.
func TestADeletedNewestSegmentIsMissedAtTheNextStart(t *testing.T) {
	for _, c := range []struct {
		name         string
		stop, second bool // how the two runs end
		left         int  // segments of the two
	}{
		{"one of two, stopped", true, true, 1},
		{"one of two, stopped, killed", true, false, 1},
		{"one of two, killed", false, false, 1},
		{"both", true, true, 0},
		{"both, killed", true, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir() + "/audit"
			var kept *State
			var last uint64
			for n, stop := range []bool{c.stop, c.second} {
				l := openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
				last = putRec(t, l, grant("/srv/a"), true)
				if n == 0 && c.left > 0 {
					kept = l.State().clone()
				}
				if stop {
					last = putRec(t, l, &Record{Event: EventStop}, true)
				}
				l.kill()
			}
			if kept == nil {
				kept = NewState()
			}
			files := segmentFiles(t, dir)
			gone := filepath.Base(files[1])
			for _, file := range files[c.left:] {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			l := openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
			if l.Whole() || l.Clean() {
				t.Errorf("whole %v, clean %v", l.Whole(), l.Clean())
			}
			sameState(t, "what is left", l.Replayed(), kept)
			if token := putRec(t, l, grant("/srv/b"), true); token <= last {
				t.Errorf("token %d after %d", token, last)
			}
			must(t, l, &Record{Event: EventStop})
			closeLog(t, l)
			recs := recordsIn(t, dir)
			at := slices.IndexFunc(recs, func(r Record) bool { return r.Event == EventRecovered })
			if at < 0 || recs[at].Code != codeDeleted || !strings.Contains(recs[at].Text, gone) || recs[at].Last < last {
				t.Errorf("recovered %+v", recs[max(at, 0)])
			}
			// They were written and are not there: that is no note.
			if _, problems := found(t, dir); !strings.Contains(problems, gone) {
				t.Errorf("verify: %q", problems)
			}
			// It is said once.
			l = openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
			if !l.Whole() || !l.Clean() {
				t.Errorf("next run: whole %v, clean %v", l.Whole(), l.Clean())
			}
		})
	}
}

func TestWhatTheLockFileSaysOfAnotherTimeIsNotBelieved(t *testing.T) {
	pad := strings.Repeat(" ", 27)
	for _, text := range []string{
		"", "12345", "12345" + pad, "12345" + pad + "seg-00000000000000000001.jsonl\n", "12345" + pad + "seg-00000000000000000000.jsonl\n", "x" + pad + "seg-1.jsonl\n",
		"\x00\x00\x00", "12345" + pad + "spare-1\n", "12345" + pad + "../seg-00000000000000009999.jsonl\n", strings.Repeat("9", 500), "12345\nseg-00000000000000009999.jsonl\n",
	} {
		dir := t.TempDir() + "/audit"
		l := openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
		must(t, l, &Record{Event: EventStop})
		closeLog(t, l)
		if err := os.WriteFile(filepath.Join(dir, lockName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l = openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
		if !l.Whole() || !l.Clean() {
			t.Errorf("%q: whole %v, clean %v", text, l.Whole(), l.Clean())
		}
		// Whoever has the log is named all the same, and in the bytes in which the version before wrote its pid.
		if text, err := os.ReadFile(filepath.Join(dir, lockName)); err != nil || strings.TrimSpace(string(text[:32])) != fmt.Sprint(os.Getpid()) {
			t.Errorf("%q, %v", text, err)
		}
		if _, err := Open(Config{Dir: dir, GID: -1}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "lockerd pid ") {
			t.Errorf("%q: second open: %v", text, err)
		}
		closeLog(t, l)
		verifyClean(t, dir)
	}
}

func TestOldSegmentsThatWereArchivedAreNotMissed(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir, BootID: bootA, SegmentSize: 13 << 10, FS: fast})
	for len(segmentFiles(t, dir)) < 4 {
		putRec(t, l, release(putRec(t, l, grant("/srv/a"), false)), false)
	}
	l.kill()
	for _, file := range segmentFiles(t, dir)[:3] { // archived
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	l = openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
	if !l.Whole() {
		t.Error("not whole")
	}
}
