package fileservers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// verb is something that a client tries on a file, and what the server answers to its parts.
type verb struct {
	name            string
	access, sharing string
	how             string
	then            string // of the handle, if the open succeeds
}

var verbs = []verb{
	{"read", "r", "rw", "", "read"},
	{"write", "rw", "rw", "", "write"},
	{"write only", "w", "rw", "", "write"},
	{"deny all", "rw", "-", "", "read"},
	{"byte-range lock", "rw", "rw", "", "lock"},
	{"write with an oplock", "rw", "rw", "oplock", "write"},
}

// try gives what a client gets: the status of the open if that fails, else of what follows.
func (v verb) try(m *mac, file, text string) string {
	status, handle := m.asks("open %s %s %s %s", file, v.access, v.sharing, v.how)
	if status != "OK" {
		return "open " + status
	}
	then := v.then + " " + handle
	if v.then == "write" {
		then += " " + text
	}
	status, _ = m.asks("%s", then)
	if closed, _ := m.asks("close %s", handle); closed != "OK" {
		m.t.Errorf("close: %s", closed)
	}
	return v.then + " " + status
}

// What each kind of share lets a client do with the token of a bundle that locker holds.
func TestWhatASambaShareLetsThroughWhileABundleIsHeld(t *testing.T) {
	needSamba(t)
	refusedLater := map[string]string{
		"read": "read FILE_LOCK_CONFLICT", "write": "write FILE_LOCK_CONFLICT", "write only": "write FILE_LOCK_CONFLICT",
		"deny all": "read FILE_LOCK_CONFLICT", "byte-range lock": "lock LOCK_NOT_GRANTED",
		// strict locking = auto: who has an oplock, as a Mac does, is believed to be alone, and locks are not looked at.
		"write with an oplock": "write OK",
	}
	refused := map[string]string{}
	through := map[string]string{}
	for _, v := range verbs {
		refused[v.name] = "open SHARING_VIOLATION"
		through[v.name] = v.then + " OK"
	}
	want := map[string]map[string]string{
		"default": refusedLater, "fruit locking netatalk": refused,
		"time machine": through, "time machine, fruit locking netatalk": refused,
	}
	for _, set := range settings {
		t.Run(set.name, func(t *testing.T) {
			s := newSite(t)
			m := startSmbd(t, s.dir, set).dial(t)
			try := func(when string, want map[string]string) {
				for _, v := range verbs {
					if got := v.try(m, "mac.sparsebundle/token", strings.ReplaceAll(when, " ", "-")); got != want[v.name] {
						t.Errorf("%s, %s: %s, want %s", when, v.name, got, want[v.name])
					}
				}
			}
			try("free", through)
			before := sum(t, s.dir)
			s.do(s.locker("lock", s.bundle()))
			try("held", want[set.name])
			if kept := want[set.name]["write with an oplock"] != "write OK"; kept != (sum(t, s.dir) == before) {
				t.Errorf("that its content is kept: %v, want %v", !kept, kept)
			}
			s.do(s.locker("unlock", s.bundle()))
			try("let go", through)
		})
	}
}

// What no lock prevents: Samba truncates first, and looks for locks afterwards. docs/timemachine.md says so.
func TestATruncatingOpenEmptiesATokenWhoeverHoldsIt(t *testing.T) {
	needSamba(t)
	for _, set := range settings {
		s := newSite(t)
		m := startSmbd(t, s.dir, set).dial(t)
		s.do(s.locker("lock", s.bundle()))
		status, _ := m.asks("open mac.sparsebundle/token rw rw trunc")
		t.Logf("%s: the open is answered %s", set.name, status)
		if st, err := os.Stat(filepath.Join(s.bundle(), "token")); err != nil || st.Size() != 0 {
			t.Errorf("%s: %v, %v bytes: the guide is wrong", set.name, err, st.Size())
		}
	}
}

// In reverse: whatever the share's settings and the client's open, a bundle in use is not had, and is had as soon as it is not.
func TestABundleThatAMacHasOpenIsNotHeld(t *testing.T) {
	needSamba(t)
	for _, set := range settings {
		t.Run(set.name, func(t *testing.T) {
			s := newSite(t)
			m := startSmbd(t, s.dir, set).dial(t)
			for _, v := range verbs {
				status, handle := m.asks("open mac.sparsebundle/token %s %s %s", v.access, v.sharing, v.how)
				if status != "OK" {
					t.Fatalf("%s: open: %s", v.name, status)
				}
				out, err := s.locker("lock", "-n", s.bundle()).CombinedOutput()
				if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 120 || !strings.Contains(string(out), "smbd") {
					t.Errorf("%s: locker lock -n: %v\n%s", v.name, err, out)
				}
				waits := s.locker("run", "-w", "5m", s.bundle(), "--", "true")
				must(t, waits.Start())
				s.until("it waits", func() bool { return strings.Contains(s.do(s.locker("list", "--all")), "waits 1") })
				if status, _ := m.asks("close %s", handle); status != "OK" {
					t.Errorf("%s: close: %s", v.name, status)
				}
				if err := waits.Wait(); err != nil {
					t.Errorf("%s: locker run after the close: %v", v.name, err)
				}
			}
			if out := s.do(s.locker("lock", s.bundle())); !strings.Contains(out, "idle") {
				t.Errorf("it does not rest on idle: %s", out)
			}
		})
	}
}
