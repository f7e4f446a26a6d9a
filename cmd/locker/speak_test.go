package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"testing/quick"
	"time"
	"unicode/utf8"

	"locker/client"
	"locker/wire"
)

func TestShownBytesAreHarmlessAndUnambiguous(t *testing.T) {
	tests := []struct{ in, utf8, c string }{
		{"/srv/a b", "/srv/a b", "/srv/a b"},
		{"lobeck’s Mac", "lobeck’s Mac", `"lobeck\u2019s Mac"`},
		{"", `""`, `""`},
		{" a", `" a"`, `" a"`},
		{`a"b`, `"a\"b"`, `"a\"b"`},
		{`a\nb`, `"a\\nb"`, `"a\\nb"`},
		{"a\nb", `"a\nb"`, `"a\nb"`},
		{"\x1b[2J", `"\x1b[2J"`, `"\x1b[2J"`},
		{"\xff", `"\xff"`, `"\xff"`},
		{"\uFFFD", "\uFFFD", `"\ufffd"`},
		{"\u009b31m", `"\u009b31m"`, `"\u009b31m"`},
		{"\u202egpj", `"\u202egpj"`, `"\u202egpj"`},
		{"a\u00a0b", `"a\u00a0b"`, `"a\u00a0b"`},
		{"\x7f", `"\x7f"`, `"\x7f"`},
	}
	for _, tt := range tests {
		t.Setenv("LC_ALL", "en_US.UTF-8")
		if got := shown(tt.in); got != tt.utf8 {
			t.Errorf("shown(%q) = %s, want %s", tt.in, got, tt.utf8)
		}
		t.Setenv("LC_ALL", "C")
		if got := shown(tt.in); got != tt.c {
			t.Errorf("shown(%q) = %s in C, want %s", tt.in, got, tt.c)
		}
	}
	back := func(s string) bool { // what is shown can be read back
		show := shown(s)
		if strings.HasPrefix(show, `"`) {
			u, err := strconv.Unquote(show)
			return err == nil && u == s
		}
		return show == s
	}
	if err := quick.Check(back, nil); err != nil {
		t.Error(err)
	}
}

func TestSentencesOfLockerdKeepTheirQuotes(t *testing.T) {
	for in, want := range map[string]string{
		`rule "x" (f:3)`:         `rule "x" (f:3)`,
		`"a\x1b": bad`:           `"a\x1b": bad`,
		"rule \"x\" \x1b[2J\xff": `rule "x" \x1b[2J\xff`,
		"":                       "",
	} {
		if got := sentence(in); got != want {
			t.Errorf("sentence(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestJSONTextIsASCIIAndReadsBack(t *testing.T) {
	law := func(s string) bool {
		text := appendText(nil, s)
		for _, b := range text {
			if b < ' ' || b >= 0x7f {
				return false
			}
		}
		var got string
		if err := json.Unmarshal(text, &got); err != nil {
			return false
		}
		if utf8.ValidString(s) {
			return got == s
		}
		u, err := strconv.Unquote(`"` + got + `"`)
		return err == nil && u == s
	}
	for _, s := range []string{"", `"\`, "é💾\x00\x7f\u2028", "\xff\xfe\"", "\xed\xa0\x80", strings.Repeat("x", 300)} {
		if !law(s) {
			t.Errorf("%q becomes %s", s, appendText(nil, s))
		}
	}
	if err := quick.Check(law, nil); err != nil {
		t.Error(err)
	}
}

func TestWaitingLineIsASCIIAndFitsItsWidth(t *testing.T) {
	now := time.Now()
	q := client.Queue{Position: 3, Blockers: []client.Blocker{{Kind: wire.Holder, User: "é", Command: "\u202e", Reason: strings.Repeat("漢", 50), Since: now}}}
	for width := range 200 {
		line := clip(waitingWords([]string{"/sp\xff"}, q, now, width), width)
		if len(line) > width {
			t.Errorf("width %d: %q", width, line)
		}
		for _, b := range []byte(line) {
			if b < ' ' || b >= 0x7f {
				t.Fatalf("byte %#x in %q", b, line)
			}
		}
	}
	if got := waitingWords([]string{"/a", "/b"}, client.Queue{Position: 1}, now, 79); got != "locker: waiting, we are next: one of 2 files is in use" {
		t.Errorf("%q", got)
	}
}

func TestDurationsAreReadAsFlockDoesAndWrittenShort(t *testing.T) {
	for in, want := range map[string]time.Duration{"90": 90 * time.Second, "0.5": 500 * time.Millisecond, "2h": 2 * time.Hour, "0": 0, "1m30s": 90 * time.Second} {
		if got, err := duration("timeout", in); err != nil || got != want {
			t.Errorf("duration(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "x", "-1", "-1s", "NaN", "Inf", "1e300", "1 s", "1d"} {
		if got, err := duration("timeout", in); err == nil {
			t.Errorf("duration(%q) = %v, want an error", in, got)
		}
	}
	for d, want := range map[time.Duration]string{
		12 * time.Hour: "12h", 90 * time.Minute: "1h30m", 100*time.Hour + 3*time.Second: "100h", 90 * time.Second: "1m30s",
		20 * time.Minute: "20m", time.Second: "1s", 10 * time.Second: "10s", 1500 * time.Microsecond: "2ms", 0: "0s",
	} {
		if got := lasting(d); got != want {
			t.Errorf("lasting(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestMomentsAreReadInEveryFormThatHelpNames(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	local := func(h, m, s int) time.Time { return time.Date(2026, 1, 2, h, m, s, 0, time.Local) }
	for in, want := range map[string]time.Time{
		"": {}, "2h": now.Add(-2 * time.Hour), "2026-01-02": local(0, 0, 0), "2026-01-02 15:04": local(15, 4, 0),
		"2026-01-02 15:04:05": local(15, 4, 5), "2026-01-02T15:04:05Z": time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
	} {
		if got, err := moment("since", in, now); err != nil || !got.Equal(want) {
			t.Errorf("moment(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"yesterday", "-2h", "2026-13-01", "12:00"} {
		if got, err := moment("since", in, now); err == nil {
			t.Errorf("moment(%q) = %v, want an error", in, got)
		}
	}
}

func TestWaitingLineKeepsPlaceAndSinceWhateverThePath(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.Local)
	blocker := client.Blocker{
		Kind: wire.Holder, User: "operator", UID: 7, PID: 4194304, Command: "restic --verbose", Since: now.Add(-48 * time.Hour), Reason: "nightly",
	}
	long := "/srv/timemachine/" + strings.Repeat("deep/", 40) + "alices.sparsebundle"
	for _, path := range []string{"/a", long, "/" + strings.Repeat("\u202e", 90), "/" + strings.Repeat("\xff", 90)} {
		blocker.Path = path
		line := clip(waitingWords([]string{path}, client.Queue{Position: 2, Blockers: []client.Blocker{blocker}}, now, 79), 79)
		for _, part := range []string{"we are number 2: ", " is held by operator since 2026-03-02 05:06"} {
			if !strings.Contains(line, part) {
				t.Errorf("%q is not in %q", part, line)
			}
		}
	}
	blocker.Path = long
	want := "locker: waiting, we are next: ...alices.sparsebundle is held by operator since 2026-03-02 05:06 (pid 4194304)"
	if got := waitingWords([]string{long}, client.Queue{Position: 1, Blockers: []client.Blocker{blocker}}, now, len(want)); got != want+": nightly" {
		t.Errorf("got  %q\nwant %q", got, want+": nightly")
	}
	outside := client.Blocker{Kind: wire.Outside, PID: 5, Command: "smbd", User: "bob"}
	want = "locker: waiting, we are next: /a is held by smbd (pid 5, user bob) outside locker"
	if got := waitingWords([]string{"/a"}, client.Queue{Position: 1, Blockers: []client.Blocker{outside}}, now, 99); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
