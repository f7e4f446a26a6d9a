package audit

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

const bootA, bootB = "5be1a5f8-6c5b-4b09-9a6f-d1d5f2f0a7c1", "0c0ffee0-1111-4222-8333-944445555666"

// What a restart may conclude from a hold that the log does not know: it was never answered, if the log is whole.
func TestTheLogIsWholeUnlessAnAnsweredRecordMayBeMissing(t *testing.T) {
	const line = `{"seq":9,"time":"2026-11-27T15:00:00.000000000Z","event":"gra`
	segment := func(t *testing.T, dir string) string {
		files := segmentFiles(t, dir)
		return files[len(files)-1]
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string)
		boot   string // of the next run; "": bootA
		floor  uint64
		accept bool
		whole  bool
	}{
		"killed":                       {whole: true},
		"killed, another boot":         {whole: true, boot: bootB},
		"killed in a write":            {whole: true, change: func(t *testing.T, dir string) { appendTo(t, segment(t, dir), line) }},
		"killed before its first byte": {whole: true, floor: 1 << 20},
		"unfinished line, another boot": {boot: bootB, change: func(t *testing.T, dir string) {
			appendTo(t, segment(t, dir), line)
		}},
		"unfinished line, boot unknown": {boot: " ", change: func(t *testing.T, dir string) {
			appendTo(t, segment(t, dir), line)
		}},
		"garbage at the end":       {change: func(t *testing.T, dir string) { appendTo(t, segment(t, dir), "\xff\xff") }},
		"zeros at the end":         {change: func(t *testing.T, dir string) { appendTo(t, segment(t, dir), "\x00\x00") }},
		"a whole line too much":    {change: func(t *testing.T, dir string) { appendTo(t, segment(t, dir), "{}\n") }},
		"two unfinished lines":     {change: func(t *testing.T, dir string) { appendTo(t, segment(t, dir), line+"\n"+line) }},
		"a number never reserved":  {floor: 1<<20 + 100},
		"no log":                   {change: func(t *testing.T, dir string) { os.RemoveAll(dir) }},
		"no checkpoint, accepted":  {accept: true, change: func(t *testing.T, dir string) { os.Truncate(segment(t, dir), 10) }},
		"damaged within, accepted": {accept: true, change: damageWithin},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/audit"
			l := openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
			for range 5 {
				putRec(t, l, grant("/srv/a"), true)
			}
			l.kill()
			if c.change != nil {
				c.change(t, dir)
			}
			boot := c.boot
			switch boot {
			case "":
				boot = bootA
			case " ":
				boot = ""
			}
			l = openLog(t, Config{Dir: dir, BootID: boot, Floor: c.floor, AcceptBroken: c.accept, FS: fast})
			if l.Whole() != c.whole {
				t.Errorf("whole: %v", l.Whole())
			}
			closeLog(t, l)
			verifyClean(t, dir)
		})
	}
}

// damageWithin changes a byte of a record that others follow.
func damageWithin(t *testing.T, dir string) {
	t.Helper()
	file := segmentFiles(t, dir)[0]
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestASegmentThatIsMovedAsideIsALoss(t *testing.T) {
	dir := t.TempDir() + "/audit"
	for range 2 {
		l := openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
		putRec(t, l, grant("/srv/a"), true)
		l.kill()
	}
	if err := os.Truncate(segmentFiles(t, dir)[1], 20); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
	if l.Whole() {
		t.Error("whole")
	}
}

func TestACheckpointNamesTheBootOfItsRun(t *testing.T) {
	dir := t.TempDir() + "/audit"
	before := ""
	for _, boot := range []string{"", bootA, bootA, bootB, "", "odd\n\xff"} {
		l := openLog(t, Config{Dir: dir, BootID: boot, SegmentSize: 13 << 10, FS: fast})
		if got := l.Replayed().BootID(); got != before {
			t.Errorf("in boot %q: the log is of boot %q, want %q", boot, got, before)
		}
		if got := l.State().BootID(); got != boot {
			t.Errorf("in boot %q: the state is of boot %q", boot, got)
		}
		for len(recordsIn(t, dir)) < 40 { // later segments, too
			putRec(t, l, release(putRec(t, l, grant("/srv/a"), false)), false)
		}
		closeLog(t, l)
		if got := replayAll(t, dir).BootID(); got != boot {
			t.Errorf("in boot %q: on file is %q", boot, got)
		}
		before = boot
	}
	verifyClean(t, dir)
}

func TestLastIsWhenTheLastRecordOfThePastWasWritten(t *testing.T) {
	dir := t.TempDir() + "/audit"
	now, boot := time.Date(2026, 11, 27, 1, 0, 0, 0, time.UTC), time.Hour
	c := Config{Dir: dir, BootID: bootA, FS: fast, Now: func() time.Time { return now }, Boot: func() time.Duration { return boot }}
	l := openLog(t, c)
	if wall, since := l.Last(); !wall.IsZero() || since != 0 {
		t.Errorf("of no log: %v %v", wall, since)
	}
	must(t, l, grant("/srv/a"))
	pass := func() { now, boot = now.Add(time.Minute), boot+time.Minute }
	check := func(want time.Time, sinceBoot time.Duration) {
		t.Helper()
		if wall, since := l.Last(); !wall.Equal(want) || since != sinceBoot {
			t.Errorf("got %v %v, want %v %v", wall, since, want, sinceBoot)
		}
	}
	for range 3 {
		pass()
		must(t, l, &Record{Event: EventDeny})
		at, since := now, boot
		closeLog(t, l)
		pass()
		l = openLog(t, c) // its head has a held record, with the time of the grant
		check(at, since)
	}
	at, since := now, boot
	l.kill()
	pass()
	// All but the checkpoint and its one held record is torn off: the checkpoint's time counts.
	files := segmentFiles(t, dir)
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for i, b := range text {
		if b == '\n' {
			if lines++; lines == 2 {
				if err := os.Truncate(filepath.Clean(files[len(files)-1]), int64(i+1)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	l = openLog(t, c)
	check(at, since)
}
