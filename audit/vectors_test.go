package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// testdata/lines.jsonl has each event and each field in the one spelling, for readers in other languages, too.
func TestTheVectorsAreReadAndWrittenAsTheyStand(t *testing.T) {
	text, err := os.ReadFile("testdata/lines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	keys := map[string]bool{}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		r, err := ParseLine(line)
		if err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if again := AppendLine(nil, &r); !bytes.Equal(again, line) {
			t.Errorf("%s\nis written as\n%s", line, again)
		}
		var fields map[string]any
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&fields); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for key := range fields {
			keys[key] = true
		}
		events = append(events, r.Event)
	}
	for _, e := range allEvents {
		if !slices.Contains(events, e) {
			t.Errorf("no line has event %s", e)
		}
	}
	doc := docFields(t)
	for _, key := range doc {
		if !keys[key] {
			t.Errorf("no line has the field %s of doc.go", key)
		}
		delete(keys, key)
	}
	for key := range keys {
		t.Errorf("doc.go does not have the field %s", key)
	}
	// Their order is doc.go's.
	all := Record{Seq: 1, Time: time.Unix(1, 0), Boot: 1, Event: EventGrant, ID: 1, Peer: true, User: "a", HasLogin: true, PID: 1, Start: 1, Command: "a",
		Path: "a", Target: "a", Dev: 1, Ino: 1, Mode: "a", Rests: []string{"a"}, Life: "a", Session: 1, Tag: "a", Reason: "a", Rule: "a", Grace: 1,
		Waited: 1, Held: 1, Expires: time.Unix(1, 0), Code: "a", Text: "a", Count: 1, SHA256: "a", By: "a", First: 1, Last: 1, Gap: 1, Request: 1, BootID: "a", Synced: 1, Altered: time.Unix(1, 0), Missed: true, Prev: "a"}
	var order []string
	for _, m := range regexp.MustCompile(`[{,]"(\w+)":`).FindAllSubmatch(AppendLine(nil, &all), -1) {
		order = append(order, string(m[1]))
	}
	if !slices.Equal(order, doc) {
		t.Errorf("fields are written in the order\n%v, and doc.go has\n%v", order, doc)
	}
}

// docFields reads the names of the fields in doc.go, in their order.
func docFields(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "is left out.\n//\n")
	list, _, ok := strings.Cut(list, "\n//\n")
	if !ok {
		t.Fatal("doc.go has no list of fields")
	}
	for line := range strings.Lines(list) {
		if m := regexp.MustCompile(`^//\t(\w+(?:, \w+)*) `).FindStringSubmatch(line); m != nil {
			names = append(names, strings.Split(m[1], ", ")...)
		}
	}
	return names
}

// testdata/before-keeper was written by lockerd when it had no keeper, and killed.
func TestALogOfTheVersionBeforeIsReadAndGoesOn(t *testing.T) {
	dir := t.TempDir() + "/audit"
	if err := os.CopyFS(dir, os.DirFS("testdata/before-keeper")); err != nil {
		t.Fatal(err)
	}
	rep := verifyClean(t, dir)
	if rep.Segments != 2 || rep.Last != 22 || rep.Holds != 4 || rep.Head != "760baaf3da99ef9cc05441e24ff882af148c1540f0187ada052040ae2754a8f4" {
		t.Errorf("verify: %+v", rep)
	}
	sum := replayAll(t, dir)
	l := openLog(t, Config{Dir: dir, BootID: bootA, FS: fast})
	sameState(t, "replayed", l.Replayed(), sum)
	if l.Replayed().BootID() != "" || !l.Whole() || l.Clean() {
		t.Errorf("boot %q, whole %v, clean %v", l.Replayed().BootID(), l.Whole(), l.Clean())
	}
	want := time.Date(2026, 11, 1, 2, 10, 23, 456773000, time.UTC)
	if wall, boot := l.Last(); !wall.Equal(want) || boot != 3623456773000 {
		t.Errorf("last %v %v", wall, boot)
	}
	var ids []uint64
	for _, h := range l.Replayed().Holds() {
		if h.Grant.Request != 0 || h.Ending != (h.Grant.ID == 20) {
			t.Errorf("hold %+v", h)
		}
		ids = append(ids, h.Grant.ID)
	}
	if lost := l.Replayed().Lost(); !slices.Equal(ids, []uint64{6, 7, 20, 22}) || len(lost) != 1 || lost[0].Grant.ID != 8 {
		t.Errorf("holds %v, lost %+v", ids, lost)
	}
	putRec(t, l, &Record{Event: EventResume, ID: 7, Gap: time.Second}, false)
	putRec(t, l, &Record{Event: EventKeeper, Code: "back", Count: 4}, false)
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	if rep := verifyClean(t, dir); rep.Holds != 4 || !rep.Clean {
		t.Errorf("verify: %+v", rep)
	}
	for _, name := range []string{"seg-00000000000000000001.jsonl", "seg-00000000000000000012.jsonl"} {
		old, err := os.ReadFile(filepath.Join("testdata/before-keeper", name))
		now, err2 := os.ReadFile(filepath.Join(dir, name))
		if err != nil || err2 != nil || !bytes.Equal(old, now) {
			t.Errorf("%s has changed: %v %v", name, err, err2)
		}
	}
}
