package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// cutLog is a log that lost power: everything up to synced is on disk for sure.
type cutLog struct {
	older  map[string][]byte // other files of the directory
	name   string            // newest segment
	text   []byte
	synced int    // bytes of it that were synced
	last   uint64 // number of the last record that was synced
	given  uint64 // last number that was given out
}

func cutPower(t *testing.T, unsynced int) *cutLog {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir, SegmentSize: 14 << 10, BootID: bootA, FS: fast})
	c := &cutLog{older: map[string][]byte{}}
	add := func() uint64 {
		r := grant("/srv/\xff\n")
		r.Command, r.Reason, r.Rule, r.Request = "", "", "", 1<<32-1
		if l.State().Len() == 0 {
			return must(t, l, r)
		}
		oldest := l.State().Holds()[0].Grant.ID
		switch l.Health().Seq % 12 {
		case 0, 3, 6:
			r = release(oldest)
		case 4, 8:
			r.Life, r.Session, r.Tag, r.Expires, r.Mode = "attached", 1<<53-1, "", time.Time{}, "shared"
		case 9:
			r.Event, r.ID, r.Gap = EventResume, oldest, 3*time.Millisecond
		case 10:
			r = &Record{Event: EventKeeper, Code: "back", Count: 3}
		case 11:
			r = &Record{Event: EventBreak, ID: oldest, Grace: time.Second, By: "root"}
		}
		return must(t, l, r)
	}
	for l.Health().Seq < 60-uint64(unsynced) {
		if err := l.Commit(add(), true); err != nil {
			t.Fatal(err)
		}
		c.last = l.Health().Seq
	}
	l.mu.Lock()
	c.name, c.synced = l.cur.name, int(l.cur.off)
	l.mu.Unlock()
	for range unsynced {
		if err := l.Commit(add(), false); err != nil {
			t.Fatal(err)
		}
	}
	c.given = l.Health().Seq
	lives := map[string]bool{}
	for _, h := range l.State().Holds() {
		lives[h.Grant.Life] = true
	}
	if len(lives) != 2 {
		t.Fatalf("holds are %v", lives)
	}
	l.kill()
	for _, file := range segmentFiles(t, dir) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == c.name {
			c.text = text
		} else {
			c.older[filepath.Base(file)] = text
		}
	}
	if len(c.older) == 0 || len(c.text) <= c.synced {
		t.Fatalf("%d older segments, %d bytes synced of %d", len(c.older), c.synced, len(c.text))
	}
	return c
}

// restart opens the log with that text in its newest segment, in that boot.
func (c *cutLog) restart(t *testing.T, dir, what string, text []byte, boot string, accept bool) error {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for name, text := range c.older {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, c.name), text, 0o640); err != nil {
		t.Fatal(err)
	}
	want := NewState()
	var torn int
	good := bytes.LastIndexByte(text[:min(len(text), c.goodEnd(text))], '\n') + 1
	torn = len(text) - good

	l, err := Open(Config{Dir: dir, SegmentSize: 14 << 10, GID: -1, FS: fast, BootID: boot, AcceptBroken: accept})
	if err != nil {
		if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), c.name) || accept {
			t.Fatalf("%s: open: %v", what, err)
		}
		return err
	}
	if l.Clean() || l.Replayed().BootID() != bootA || l.Whole() && torn > 0 && boot == bootB {
		t.Fatalf("%s: clean %v, boot %s, whole %v", what, l.Clean(), l.Replayed().BootID(), l.Whole())
	}
	tail, err := filepath.Glob(filepath.Join(dir, c.name+tornInfix+"*"))
	if err != nil || len(tail) != min(torn, 1) {
		t.Fatalf("%s: %d torn bytes, kept in %q, %v", what, torn, tail, err)
	}
	if torn > 0 {
		if kept, err := os.ReadFile(tail[0]); err != nil || !bytes.Equal(kept, text[good:]) {
			t.Fatalf("%s: kept %q of %q, %v", what, kept, text[good:], err)
		}
	}
	seq := must(t, l, grant("/srv/next"))
	if seq <= c.given {
		t.Fatalf("%s: token %d after %d had been given", what, seq, c.given)
	}
	must(t, l, release(seq))
	must(t, l, &Record{Event: EventStop})
	replayed := l.Replayed()
	closeLog(t, l)

	// All that was synced is there, and what there is adds up.
	var have uint64
	named := false
	err = Read(dir, Filter{}, func(line []byte, r *Record) error {
		if r.Seq <= c.given {
			have = r.Seq
			return want.Apply(r)
		}
		if r.Event == EventRecovered {
			named = torn == 0 || strings.Contains(r.Target, filepath.Base(tail[0])) && r.Count == uint64(torn)
		}
		return nil
	})
	if err != nil || have < c.last || !named {
		t.Fatalf("%s: records up to %d of %d synced, named %v, %v", what, have, c.last, named, err)
	}
	sameState(t, what, replayed, want)
	rep := verifyClean(t, dir)
	if len(rep.Notes) == 0 || !rep.Clean {
		t.Fatalf("%s: verify: %+v", what, rep)
	}
	return nil
}

// goodEnd is where the first line ends that is not as it was written.
func (c *cutLog) goodEnd(text []byte) int {
	for i := range text {
		if i >= len(c.text) || text[i] != c.text[i] {
			return i
		}
	}
	return len(text)
}

func TestAPowerCutLosesNothingThatWasSynced(t *testing.T) {
	c := cutPower(t, 12)
	dir := quickDir(t) + "/audit"
	step := stride(47)
	begin := seedOf(t).IntN(step)
	opens, refused := 0, 0
	for at := c.synced + begin; at <= len(c.text); at += step {
		rest := len(c.text) - at
		garbage, hole, bit := bytes.Clone(c.text), bytes.Clone(c.text), bytes.Clone(c.text)
		for i := at; i < len(garbage); i++ {
			garbage[i] ^= byte(1 + (i*31+at)%255)
		}
		clear(hole[at:min(at+37, len(hole))])
		if rest > 0 {
			bit[at] ^= 1 << (at % 8)
		}
		for _, image := range []struct {
			what   string
			text   []byte
			within bool // intact records may follow the damage
		}{
			{"cut", c.text[:at], false}, {"zeros", slices.Concat(c.text[:at], make([]byte, rest)), false},
			{"garbage", garbage, false}, {"hole", hole, true}, {"bit", bit, true},
		} {
			what := fmt.Sprintf("%s at %d", image.what, at)
			opens++
			if err := c.restart(t, dir, what, image.text, bootB, false); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if step == 1 && at%4 != 0 {
				continue
			}
			// In one boot nothing that was written can be missing: damage with intact records after it is something else.
			if err := c.restart(t, dir, what, image.text, bootA, false); err != nil && !image.within {
				t.Fatalf("%s, same boot: %v", what, err)
			} else if err != nil {
				refused++
				c.restart(t, dir, what+" accepted", image.text, bootA, true)
			}
		}
	}
	t.Logf("%d images; in the same boot %d were refused and then accepted", opens, refused)
	if refused == 0 {
		t.Error("no image with intact records after the damage was refused")
	}
}

// What a sync has covered is not taken for what a power cut can have left, as soon as a later record knows of the sync.
func TestDamageBeforeTheLastSyncIsNoPowerCut(t *testing.T) {
	c := cutPower(t, 12)
	dir := quickDir(t) + "/audit"
	head := bytes.IndexByte(c.text, '\n') + 1 // the checkpoint; without it the segment before counts
	step := stride(11)
	for at := head + seedOf(t).IntN(step); at < c.synced; at += step {
		text := bytes.Clone(c.text)
		text[at] ^= 1 << (at % 8)
		for _, boot := range []string{bootA, bootB, ""} {
			if c.restart(t, dir, fmt.Sprintf("byte %d in boot %q", at, boot), text, boot, false) == nil {
				t.Fatalf("byte %d of %d synced is damaged, and the log is taken in boot %q", at, c.synced, boot)
			}
		}
		if at%5 == 0 {
			clear(text[at:min(at+600, c.synced)])
			if c.restart(t, dir, fmt.Sprintf("hole at %d", at), text, bootB, false) == nil {
				t.Fatalf("a hole at %d of %d synced, and the log is taken", at, c.synced)
			}
		}
	}
}
