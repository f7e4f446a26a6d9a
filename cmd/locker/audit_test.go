package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"locker/audit"
)

// writeLog makes a state directory with a log of three locks.
func writeLog(t *testing.T) (state string) {
	t.Helper()
	state = t.TempDir()
	log, err := audit.Open(audit.Config{Dir: filepath.Join(state, "audit"), SegmentSize: 64 << 10, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	grant := func(uid uint32, user, path, reason string) uint64 {
		seq, err := log.Append(&audit.Record{
			Event: audit.EventGrant, Peer: true, UID: uid, GID: uid, User: user, PID: 77, Command: "res\x1btic", Path: path,
			Dev: 1, Ino: 2, Mode: "exclusive", Rests: []string{"ofd", "flock"}, Life: "detached", Reason: reason, Rule: "own bundles", Waited: 3 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	id := grant(1001, "alice", "/srv/a/x", "nightly")
	grant(1002, "bob", "/srv/ab", "evil \x1b[31m\u202e\xff")
	grant(0, "root", "/srv/a", "")
	seq, err := log.Append(&audit.Record{Event: audit.EventRelease, ID: id, Peer: true, UID: 1001, GID: 1001, User: "alice", Path: "/srv/a/x", Held: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Commit(seq, true); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return state
}

func TestAuditShowFiltersAndNeverPrintsWhatATerminalObeys(t *testing.T) {
	s := newStage(t)
	state := writeLog(t)
	tests := []struct {
		args []string
		want []string // paths of the records, in order
	}{
		{[]string{"--event", "grant"}, []string{"/srv/a/x", "/srv/ab", "/srv/a"}},
		{[]string{"--event", "grant,release", "--user", "alice"}, []string{"/srv/a/x", "/srv/a/x"}},
		{[]string{"--event", "grant", "--user", "1002"}, []string{"/srv/ab"}},
		{[]string{"--event", "grant", "--user", "0"}, []string{"/srv/a"}},
		{[]string{"--event", "grant", "--path", "/srv/a/"}, []string{"/srv/a/x", "/srv/a"}},
		{[]string{"--event", "grant", "--since", "1h"}, []string{"/srv/a/x", "/srv/ab", "/srv/a"}},
		{[]string{"--event", "grant", "--until", "1h"}, nil},
		{[]string{"--event", "deny"}, nil},
	}
	for _, tt := range tests {
		args := append([]string{"audit", "show", "--state-dir", state}, tt.args...)
		raw, err := s.locker(append(args, "--json")...).Output()
		if err != nil {
			t.Errorf("%v: %v", tt.args, err)
		}
		var got []string
		for line := range bytes.Lines(raw) {
			var r struct{ Path string }
			if err := json.Unmarshal(line, &r); err != nil {
				t.Errorf("%v: %q: %v", tt.args, line, err)
			}
			got = append(got, r.Path)
		}
		if strings.Join(got, " ") != strings.Join(tt.want, " ") {
			t.Errorf("%v: %q, want %q", tt.args, got, tt.want)
		}
		text, err := s.locker(args...).Output()
		if err != nil || bytes.Count(text, []byte("\n")) != len(tt.want) {
			t.Errorf("%v: %v, %q", tt.args, err, text)
		}
		for _, b := range text {
			if b != '\n' && (b < ' ' || b >= 0x7f) {
				t.Fatalf("byte %#x in %q", b, text)
			}
		}
	}
	text, _ := s.locker("audit", "show", "--state-dir", state, "--event", "grant", "--user", "bob").Output()
	for _, part := range []string{
		` grant bob (uid 1002, pid 77) /srv/ab `, ` command="res\x1btic" mode=exclusive rests=ofd,flock life=detached `,
		` rule="own bundles" `, ` reason="evil \x1b[31m\u202e\xff"`, ` waited=3s`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}

func TestAuditShowRefusesWhatItDoesNotUnderstand(t *testing.T) {
	s := newStage(t)
	for _, args := range [][]string{
		{"--event", "grnat"}, {"--seq", "x"}, {"--seq", "0"}, {"--seq", "5-3"}, {"--since", "soon"}, {"extra"}, {"--seq", "1-x"},
	} {
		cmd := s.locker(append([]string{"audit", "show", "--state-dir", s.dir}, args...)...)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != exitUsage {
			t.Errorf("%v: exit code %d: %s", args, cmd.ProcessState.ExitCode(), out)
		}
	}
	cmd := s.locker("audit", "show", "--state-dir", filepath.Join(s.dir, "nowhere"))
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(string(out), hintNoLog) {
		t.Errorf("no log: exit code %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

func TestAuditVerifyFindsAChangedRecord(t *testing.T) {
	s := newStage(t)
	state := writeLog(t)
	verify := func(args ...string) (string, int) {
		cmd := s.locker(append([]string{"audit", "verify", "--state-dir", state}, args...)...)
		out, _ := cmd.Output()
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := verify(); code != 0 || !strings.HasPrefix(out, "intact: ") {
		t.Errorf("exit code %d: %s", code, out)
	}
	out, code := verify("--json")
	if code != 0 || !json.Valid([]byte(out)) || !strings.HasPrefix(out, `{"intact":true,`) {
		t.Errorf("exit code %d: %s", code, out)
	}
	segments, _ := filepath.Glob(filepath.Join(state, "audit", "*"))
	changed := false
	for _, name := range segments {
		text, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(text, []byte("nightly")) {
			continue
		}
		changed = true
		if err := os.WriteFile(name, bytes.Replace(text, []byte("nightly"), []byte("nightlz"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !changed {
		t.Fatal("no segment has the record")
	}
	if out, code := verify(); code != exitFailure || !strings.Contains(out, "problem: ") || !strings.Contains(out, "damaged") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := verify("--json"); code != exitFailure || !strings.HasPrefix(out, `{"intact":false,`) {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestAuditShowSaysWhenNoRecordIsAboutAUser(t *testing.T) {
	s := newStage(t)
	state := writeLog(t)
	for user, want := range map[string]string{
		"nosuch": "locker: no record is about user nosuch\n", "x\x1b": `locker: no record is about user "x\x1b"` + "\n", "alice": "", "54399": "",
	} {
		cmd := s.locker("audit", "show", "--state-dir", state, "--user", user, "--event", "deny")
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil || len(out) > 0 || said.String() != want {
			t.Errorf("%q: %v, %q, says %q, want %q", user, err, out, said.String(), want)
		}
	}
}

func TestAuditLooksWhereTheUsersOwnLockerdKeepsItsLog(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"system", "home/.local/state/locker/audit", "xdg/locker/audit", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		system, xdg, home string
		euid              int
		want              string
	}{
		{"system", "xdg", "home", 1001, "system"},
		{"none", "xdg", "home", 0, "none"},
		{"none", "xdg", "home", 1001, "xdg/locker/audit"},
		{"none", "", "home", 1001, "home/.local/state/locker/audit"},
		{"none", "empty", "home", 1001, "none"},
		{"none", "", "", 1001, "none"},
	}
	for _, tt := range tests {
		getenv := func(name string) string {
			value := map[string]string{"XDG_STATE_HOME": tt.xdg, "HOME": tt.home}[name]
			if value == "" {
				return ""
			}
			return filepath.Join(dir, value)
		}
		if got := defaultAudit(filepath.Join(dir, tt.system), tt.euid, getenv); got != filepath.Join(dir, tt.want) {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
}

func TestAuditShowNamesAGapHoweverShortAndTheBoot(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8") // elsewhere a µ is escaped
	for want, r := range map[string]*audit.Record{
		" resume id=3 gap=123µs":               {Seq: 9, Event: audit.EventResume, ID: 3, Gap: 123 * time.Microsecond},
		" resume id=3":                         {Seq: 9, Event: audit.EventResume, ID: 3, Request: 7},
		" keeper code=gone count=12":           {Seq: 9, Event: audit.EventKeeper, Code: "gone", Count: 12},
		" checkpoint last=20 boot_id=5be1a5f8": {Seq: 9, Event: audit.EventCheckpoint, Last: 20, BootID: "5be1a5f8"},
	} {
		if got := recordLine(r); !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want …%q", got, want)
		}
	}
}
