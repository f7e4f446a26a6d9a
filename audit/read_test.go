package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestReadGivesWhatTheFilterAsksFor(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir, SegmentSize: 14 << 10})
	for i := range 40 {
		r := grant([]string{"/srv/a", "/srv/a/b", "/srv/ab", "/other"}[i%4])
		r.UID = uint32(1000 + i%3)
		r.User = []string{"alice", "bob", ""}[i%3]
		putRec(t, l, r, false)
	}
	must(t, l, &Record{Event: EventDeny, Target: "/srv/a/c"})
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	all := recordsIn(t, dir)
	mid := all[len(all)/2]
	for _, c := range []struct {
		f    Filter
		want func(r *Record) bool
	}{
		{Filter{}, func(r *Record) bool { return true }},
		{Filter{User: "alice"}, func(r *Record) bool { return r.User == "alice" }},
		{Filter{UID: 1001, HasUID: true}, func(r *Record) bool { return r.Peer && r.UID == 1001 }},
		{Filter{HasUID: true}, func(r *Record) bool { return false }},
		{Filter{Path: "/srv/a"}, func(r *Record) bool { return r.Path == "/srv/a" }},
		{Filter{Path: "/srv/a", Below: true}, func(r *Record) bool {
			return r.Path == "/srv/a" || r.Path == "/srv/a/b" || r.Target == "/srv/a/c"
		}},
		{Filter{Path: "/", Below: true}, func(r *Record) bool { return r.Path != "" || strings.HasPrefix(r.Target, "/") }},
		{Filter{Events: []Event{EventHeld, EventStop}}, func(r *Record) bool { return r.Event == EventHeld || r.Event == EventStop }},
		{Filter{Since: mid.Time}, func(r *Record) bool { return !r.Time.Before(mid.Time) }},
		{Filter{Until: mid.Time}, func(r *Record) bool { return r.Time.Before(mid.Time) }},
		{Filter{First: mid.Seq}, func(r *Record) bool { return r.Seq >= mid.Seq }},
		{Filter{Last: mid.Seq}, func(r *Record) bool { return r.Seq <= mid.Seq }},
		{Filter{First: mid.Seq, Last: mid.Seq + 3}, func(r *Record) bool { return r.Seq >= mid.Seq && r.Seq <= mid.Seq+3 }},
		{Filter{First: 1 << 60}, func(r *Record) bool { return false }},
	} {
		var want, got []uint64
		for _, r := range all {
			if c.want(&r) {
				want = append(want, r.Seq)
			}
		}
		err := Read(dir, c.f, func(line []byte, r *Record) error {
			if parsed, err := ParseLine(line); err != nil || !reflect.DeepEqual(parsed, *r) {
				t.Errorf("line %q is not its record", line)
			}
			got = append(got, r.Seq)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, %v, want %v", c.f, got, err, want)
		}
	}
	if err := Read(dir, Filter{}, func([]byte, *Record) error { return os.ErrClosed }); err != os.ErrClosed {
		t.Errorf("the error of fn comes back as %v", err)
	}
}

func TestReadingADamagedLogGivesTheRestAndAnError(t *testing.T) {
	dir := twoSegments(t, true)
	file := segmentFiles(t, dir)[0]
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[2500+bytes.Index(text[2500:], []byte(`"path":"/srv`))+10] ^= 1
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o640); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = Read(dir, Filter{}, func([]byte, *Record) error { n++; return nil })
	rep, _ := Verify(dir)
	if !errors.Is(err, ErrBroken) || n < 50 || n != rep.Records {
		t.Errorf("%d records, %v; verify saw %d", n, err, rep.Records)
	}
}
