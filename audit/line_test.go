package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// textFields are all fields that may hold bytes of a client.
var textFields = map[string]func(r *Record) *string{
	"user":    func(r *Record) *string { return &r.User },
	"command": func(r *Record) *string { return &r.Command },
	"path":    func(r *Record) *string { return &r.Path },
	"target":  func(r *Record) *string { return &r.Target },
	"mode":    func(r *Record) *string { return &r.Mode },
	"life":    func(r *Record) *string { return &r.Life },
	"tag":     func(r *Record) *string { return &r.Tag },
	"reason":  func(r *Record) *string { return &r.Reason },
	"rule":    func(r *Record) *string { return &r.Rule },
	"code":    func(r *Record) *string { return &r.Code },
	"text":    func(r *Record) *string { return &r.Text },
	"sha256":  func(r *Record) *string { return &r.SHA256 },
	"by":      func(r *Record) *string { return &r.By },
	"boot_id": func(r *Record) *string { return &r.BootID },
	"prev":    func(r *Record) *string { return &r.Prev },
}

// hostile are texts that have fooled logs and terminals.
func hostile() []string {
	var all []string
	for c := range 256 {
		all = append(all, string([]byte{byte(c)}), "a"+string([]byte{byte(c)})+"b")
	}
	return append(all,
		"\n{\"seq\":1,\"event\":\"grant\"}\n", "\r\x1b[2K\x1b]0;owned\a", "\x9b31m", "safe\u202etxt.exe", "\u2066\u2069\u200b\ufeff",
		"\xff\xfe", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\U0010ffff", "\ufffd", "\u2028\u2029", `\`, `\\`, `"`, `\"`, `\x41`, `\\x41`, `\u0041`,
		`","event":"stop`, `"}`, "äöü", "日本", "\U0001f600", strings.Repeat("\xff", 4095), strings.Repeat(`"`, 4095), "</script>", "%n%s", "$(id)", "a\x00b",
	)
}

func TestALineIsOneLineOfPrintableASCIIWhateverAClientSends(t *testing.T) {
	for name, field := range textFields {
		for _, text := range hostile() {
			r := *grant("/srv")
			r.Seq, r.ID = 7, 7
			*field(&r) = text
			line := AppendLine(nil, &r)
			for _, c := range line {
				if c < ' ' || c > '~' {
					t.Fatalf("%s %q: byte %#x in line %q", name, text, c, line)
				}
			}
			got, err := ParseLine(line)
			if err != nil {
				t.Fatalf("%s %q: %v in %q", name, text, err, line)
			}
			if !reflect.DeepEqual(got, r) {
				t.Fatalf("%s %q:\n got %+v\nwant %+v", name, text, got, r)
			}
			var fields map[string]any
			if err := json.Unmarshal(line, &fields); err != nil {
				t.Fatalf("%s %q: not JSON: %v in %q", name, text, err, line)
			}
			quoted := strconv.QuoteToASCII(text)
			if want := quoted[1 : len(quoted)-1]; fields[name] != want && text != "" {
				t.Fatalf("%s: JSON value %q, want %q", name, fields[name], want)
			}
			if back, err := strconv.Unquote(`"` + fmt.Sprint(fields[name]) + `"`); err != nil || back != text {
				t.Fatalf("%s: %q comes back as %q, %v", name, text, back, err)
			}
		}
	}
}

func TestNumbersAndTimesComeBack(t *testing.T) {
	const maxU, maxI, minI = 1<<64 - 1, 1<<63 - 1, -1 << 63
	for _, r := range []Record{
		{Event: EventStart},
		{Seq: maxU, ID: maxU, Start: maxU, Dev: maxU, Ino: maxU, Session: maxU, Count: maxU, First: maxU, Last: maxU, Synced: maxU, Event: EventGap},
		{Boot: maxI, Grace: maxI, Waited: maxI, Held: maxI, Gap: maxI, PID: 1<<31 - 1, Request: 1<<32 - 1, Event: EventResume},
		{Boot: minI, Grace: minI, Waited: minI, Held: minI, Gap: minI, PID: -1 << 31, Request: 1, Event: EventStart},
		{Event: EventHeld, Count: 3, Text: "bands/1f", Altered: time.Unix(1, 2).UTC(), Missed: true},
		{Event: EventAltered, Missed: true},
		{Peer: true, Event: EventDeny},
		{Peer: true, UID: 1<<32 - 1, GID: 1<<32 - 1, HasLogin: true, LoginUID: 1<<32 - 1, Event: EventDeny},
		{HasLogin: true, Event: EventDeny},
		{Rests: []string{""}, Event: EventGrant},
		{Rests: []string{"ofd", "flock", "a,b", `","`}, Event: EventGrant},
		{Time: time.Unix(0, 0).UTC(), Event: EventStart},
		{Time: time.Unix(0, 1).UTC(), Expires: time.Unix(0, -1).UTC(), Event: EventStart},
		{Time: time.Date(2000, 2, 29, 23, 59, 59, 999999999, time.UTC), Expires: time.Date(1900, 3, 1, 0, 0, 0, 0, time.UTC), Event: EventStart},
		{Time: time.Date(2262, 4, 11, 23, 47, 15, 0, time.UTC), Expires: time.Date(1677, 9, 21, 0, 12, 45, 0, time.UTC), Event: EventStart},
	} {
		line := AppendLine(nil, &r)
		got, err := ParseLine(line)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%s\n got %+v, %v\nwant %+v", line, got, err, r)
		}
	}
}

func TestTimesAreRFC3339WithNineDigits(t *testing.T) {
	const form = `"2006-01-02T15:04:05.000000000Z"`
	for day := -100000; day < 100000; day += 13 {
		at := time.Unix(int64(day)*86400+int64(day*7919%86400), int64(day*day%1000000000)).UTC()
		if got, want := string(appendTime(nil, `"`, at)), at.Format(form); got != want {
			t.Fatalf("%v: got %s, want %s", at, got, want)
		}
	}
	for _, far := range []time.Time{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)} {
		r := Record{Event: EventStart, Time: far}
		if _, err := ParseLine(AppendLine(nil, &r)); err != nil {
			t.Errorf("%v: %v", far, err)
		}
	}
}

func TestEverySingleByteEditOfALineIsRefused(t *testing.T) {
	r := grant("/srv/\xff\"\\")
	r.Seq, r.ID, r.Time, r.Boot, r.Prev = 9, 9, r.Expires, 5, strings.Repeat("0a", 32)
	line := AppendLine(nil, r)
	prev := bytes.LastIndex(line, []byte(`"prev":"`)) + len(`"prev":"`)
	for i := range line {
		for c := range 256 {
			if byte(c) == line[i] {
				continue
			}
			edited := bytes.Clone(line)
			edited[i] = byte(c)
			got, err := ParseLine(edited)
			inPrev := i >= prev && i < len(line)-2
			if err == nil && !(inPrev && got.Prev != r.Prev) { // the chain finds that
				t.Fatalf("byte %d %q → %q parses: %s", i, line[i], byte(c), edited)
			}
		}
	}
	for i := range line {
		if _, err := ParseLine(line[:i]); err == nil {
			t.Errorf("cut at %d parses: %s", i, line[:i])
		}
	}
}

func TestOtherSpellingsOfARecordAreRefused(t *testing.T) {
	body := `{"seq":1,"event":"deny","text":"A"`
	for _, edit := range []string{
		`{"seq":01,"event":"deny","text":"A"`, `{"seq":1,"event":"deny","text":"\\x41"`, `{"seq":1,"event":"deny","text":"\u0041"`,
		`{ "seq":1,"event":"deny","text":"A"`, `{"seq":1,"event":"deny","id":0,"text":"A"`, `{"seq":1,"event":"deny","pid":-0,"text":"A"`,
		`{"seq":1,"event":"deny","text":"A","count":0`, `{"seq":1,"event":"deny","rests":[],"text":"A"`, `{"seq":1,"event":"deny","text":""`,
		`{"seq":1,"text":"A","event":"deny"`, `{"seq":1,"event":"deny","event":"deny","text":"A"`, `{"seq":1,"event":"deny","uid":1,"text":"A"`,
		`{"seq":1,"time":"2026-01-01T00:00:00Z","event":"deny"`, `{"seq":1,"time":"2026-02-30T00:00:00.000000000Z","event":"deny"`,
		`{"seq":1,"time":"2026-01-01T24:00:00.000000000Z","event":"deny"`, `{"seq":18446744073709551616,"event":"deny"`, `{"seq":1,"event":"deny","pid":2147483648`,
		`{"seq":1,"event":"deny","text":"\\ud800"`, `{"seq":1,"event":"deny","text":"ä"`, `{"seq":1,"event":"deny","text":"a` + "\n" + `"`, `{"event":"deny"`, `{"seq":-1,"event":"deny"`,
		`{"seq":1,"event":"deny","text":"A","gap_ns":0`, `{"seq":1,"event":"deny","text":"A","request":0`, `{"seq":1,"event":"deny","text":"A","request":4294967296`,
		`{"seq":1,"event":"deny","text":"A","request":-1`, `{"seq":1,"event":"deny","text":"A","boot_id":""`, `{"seq":1,"event":"deny","text":"A","request":1,"gap_ns":1`,
		`{"seq":1,"event":"deny","text":"A","boot_id":"a","request":1`, `{"seq":1,"event":"deny","text":"A","gap_ns":1,"last":1`,
	} {
		if _, err := ParseLine(sealed(edit)); err == nil {
			t.Errorf("parses: %s", edit)
		}
	}
	if _, err := ParseLine(sealed(body)); err != nil {
		t.Errorf("%s: %v", body, err)
	}
}

// sealed closes a line with a good crc.
func sealed(body string) []byte {
	return fmt.Appendf(nil, `%s,"crc":"%08x"}`, body, crcOf(body))
}

func FuzzWhateverParsesReencodesToTheSameBytes(f *testing.F) {
	r := grant("/srv/\xff\u202e\"\\\n")
	r.Seq, r.ID, r.Time, r.Boot, r.Prev = 9, 9, r.Expires, 5, strings.Repeat("0a", 32)
	line := AppendLine(nil, r)
	cut := bytes.LastIndex(line, []byte(`,"crc":"`))
	f.Add(line[:cut], line[cut:])
	f.Add([]byte(`{"seq":1,"event":"deny","text":"\\U0010ffff\\\"\\\\\\x00"`), []byte{})
	f.Add([]byte(`{"seq":1,"event":"deny","rests":["",""]`), []byte{})
	f.Add([]byte(`{"seq":1,"event":"resume","id":1,"last":9,"gap_ns":1500000,"request":4294967295,"boot_id":"\\xff"`), []byte{})
	for _, e := range allEvents {
		f.Add([]byte(`{"seq":1,"event":"`+string(e)+`","uid":0,"gid":0,"first":3,"last":4`), []byte(`,"prev":"00"}`))
	}
	f.Fuzz(func(t *testing.T, body, end []byte) {
		check := func(line []byte) {
			r, err := ParseLine(line)
			if err != nil {
				return
			}
			if again := AppendLine(nil, &r); !bytes.Equal(again, line) {
				t.Fatalf("%q\nreencodes to\n%q", line, again)
			}
			if !json.Valid(line) {
				t.Fatalf("not JSON: %q", line)
			}
		}
		check(append(bytes.Clone(body), end...))
		// With a good crc, or no mutation would ever get past it.
		check(append(fmt.Appendf(bytes.Clone(body), `,"crc":"%08x"`, crcOf(string(body))), append(end, '}')...))
		check(sealed(string(body)))
	})
}

func FuzzWhateverIsWrittenComesBack(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s, s, uint64(1), int64(-1), true)
	}
	f.Fuzz(func(t *testing.T, a, b string, n uint64, i int64, on bool) {
		r := Record{Seq: n, Event: allEvents[n%uint64(len(allEvents))], ID: n >> 3, Peer: on, HasLogin: !on, PID: int32(i), Path: a, Target: b,
			Command: b, Tag: a, Reason: b, Text: a, Rests: []string{a, b}, Grace: time.Duration(i), Expires: timeOf(i), Gap: time.Duration(i), Request: uint32(n), BootID: a, Synced: n >> 1, Prev: b}
		if on {
			r.UID, r.GID = uint32(n), uint32(i)
		}
		line := AppendLine(nil, &r)
		got, err := ParseLine(line)
		if len(line) > maxLine {
			return
		}
		r.Expires = timeOf(nanos(r.Expires))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Fatalf("%q\n got %+v, %v\nwant %+v", line, got, err, r)
		}
	})
}
