package fileservers

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// trial is one server, and a bundle of which a client tries everything before, while and after it is held.
type trial struct {
	kind  kind
	guard bool // lockerd's guard is to refuse the server's opens: then only what no open is needed for gets through
}

func (x trial) String() string {
	if x.guard {
		return x.kind.name + " with guard"
	}
	return x.kind.name
}

// outcome is what came of a verb.
type outcome struct {
	answer string // of the open if that failed, else of what followed
	opened bool
	done   bool // what the verb is for
}

// try has the client do it, and gives all files their content back.
func (v verb) try(s *site, m *mac, file string) outcome {
	s.t.Helper()
	before := sum(s.t, s.dir)
	status, handle := m.asks("open mac.sparsebundle/%s %s %s %s", file, v.access, v.sharing, v.how)
	o := outcome{answer: "open " + status, opened: status == "OK"}
	if o.opened {
		if v.then != "" {
			then := v.then + " " + handle
			if v.then == "write" {
				then += " changed"
			}
			status, _ := m.asks("%s", then)
			o.answer, o.done = v.then+" "+status, status == "OK"
		}
		if closed, _ := m.asks("close %s", handle); closed != "OK" {
			s.t.Errorf("%s of %s: close: %s", v.name, file, closed)
		}
	}
	if v.past == "truncate" { // whatever the answer was
		info, err := os.Stat(filepath.Join(s.bundle(), file))
		must(s.t, err)
		o.done = info.Size() == 0
	}
	changes := o.done && (v.then == "write" || v.past == "truncate")
	if changed := sum(s.t, s.dir) != before; changed != changes {
		s.t.Errorf("%s of %s, which was answered %q: that the files have changed is %v", v.name, file, o.answer, changed)
	}
	s.fill()
	return o
}

// prediction is what doctor says of a bundle and a server: whether it is kept out, and what it can do all the same.
type prediction struct {
	KeptOut     string   `json:"kept_out"`
	GetsThrough []string `json:"gets_through"`
}

// says reports whether a verb, or a part of one, is predicted to get through to a file.
func (p *prediction) says(word, file string) bool {
	if file != "token" {
		word = "bands"
	}
	return slices.Contains(p.GetsThrough, word)
}

// under gives a command of locker's in a mount namespace where /etc has the server's configuration, until the test ends.
func (s *site) under(server *served, args ...string) *exec.Cmd {
	s.t.Helper()
	etc, err := os.MkdirTemp("", "etc") // not TempDir, whose name may have a comma, which mount(8) would take for the end
	must(s.t, err)
	s.t.Cleanup(func() { os.RemoveAll(etc) })
	file := filepath.Join(etc, server.place)
	must(s.t, os.Mkdir(filepath.Dir(file), 0o755))
	must(s.t, os.WriteFile(file, []byte(server.conf), 0o644))
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-ec",
		`mount -t overlay -o "lowerdir=$0:/etc" overlay /etc; exec "$@"`, etc, filepath.Join(s.bin, "locker")}, args...)...)
	cmd.Env = append(os.Environ(), "LOCKER_SOCKET="+s.socket)
	return cmd
}

// doctor asks it of the bundle.
func (s *site) doctor(server *served) prediction {
	s.t.Helper()
	return s.doctorOf(server, s.bundle())
}

// doctorOf asks it, again as long as somebody whom it asks itself does not answer in time: of all servers here there is something to know.
func (s *site) doctorOf(server *served, path string) (p prediction) {
	s.t.Helper()
	s.until("doctor knows", func() bool {
		p = s.askDoctor(server, path)
		return p.KeptOut != "unknown"
	})
	return p
}

func (s *site) askDoctor(server *served, path string) prediction {
	s.t.Helper()
	cmd := s.under(server, "doctor", "--json", path)
	var complains bytes.Buffer
	cmd.Stderr = &complains
	out, ended := cmd.Output() // its status is 1 where somebody is not kept out
	var said struct {
		Verdicts []struct {
			Path, Server, Name string
			prediction
		}
	}
	if err := json.Unmarshal(out, &said); err != nil {
		s.t.Fatalf("locker doctor: %v, %v\n%s%s", ended, err, out, &complains)
	}
	for _, v := range said.Verdicts {
		if v.Server == filepath.Dir(server.place) && v.Name == "tm" && v.Path == path {
			return v.prediction
		}
	}
	s.t.Fatalf("locker doctor says nothing of the server:\n%s", out)
	return prediction{}
}

// programOf gives a program's file, as the guard is to know it.
func programOf(t *testing.T, name string) string {
	t.Helper()
	program, err := exec.LookPath(name)
	must(t, err)
	program, err = filepath.EvalSymlinks(program)
	must(t, err)
	return program
}

// run tries everything, and compares: all of what was predicted must get through, and nothing else.
func (x trial) run(t *testing.T) {
	x.kind.need(t, "unshare")
	var deny []string
	if x.guard {
		deny = append(deny, programOf(t, x.kind.program))
	}
	s := newSite(t, deny...)
	server := x.kind.start(t, s.dir)
	m := server.dial(t)
	x.free(s, m, "before")
	before := sum(t, s.dir)
	x.hold(s)
	predicted, held := s.doctor(server), x.kind.held
	if x.guard {
		defer func() {
			if t.Failed() {
				t.Logf("doctor said at last: %+v\n%s", predicted, s.do(s.locker("status")))
			}
		}()
		// Again: doctor looks at whatever runs under the server's name on this machine, other tests' programs among it.
		s.until("doctor says that nothing gets through that takes an open", func() bool {
			predicted = s.doctor(server)
			return slices.Equal(predicted.GetsThrough, x.kind.opensNot) && predicted.KeptOut == "yes"
		})
		held = nil // the server answers with its words for EPERM
	}
	s.warns(server, predicted)
	t.Logf("doctor: kept out: %s, but not from %v", predicted.KeptOut, predicted.GetsThrough)
	for _, file := range []string{"token", "bands/0"} {
		for _, v := range x.kind.verbs {
			o := x.whileHeld(s, func() outcome { return v.try(s, m, file) })
			if want := predicted.says("open", file); o.opened != want && v.past != "truncate" {
				t.Errorf("%s of %s while it is held: %s; that it can be opened should be %v", v.name, file, o.answer, want)
			}
			if want := predicted.says(v.past, file); o.done != want && v.past != "" {
				t.Errorf("%s of %s while it is held: %s, done: %v, want %v", v.name, file, o.answer, o.done, want)
			}
			if want, ok := held[v.name]; ok && file == "token" && o.answer != want {
				t.Errorf("%s of %s while it is held: %s, want %s", v.name, file, o.answer, want)
			}
		}
	}
	if sum(t, s.dir) != before {
		t.Error("a file is not as it was")
	}
	s.do(s.locker("unlock", s.bundle()))
	x.free(s, m, "afterwards")
	x.hold(s)
	x.names(s, m, predicted)
}

// warns has the bundle that is held asked for again: who is not kept out of anything, and nobody else, is named then.
func (s *site) warns(server *served, predicted prediction) {
	s.t.Helper()
	if filepath.Dir(server.place) != "samba" {
		return
	}
	said := ""
	named := func() bool {
		said = s.do(s.under(server, "lock", s.bundle()))
		return strings.Contains(said, "does not keep Samba share tm out: ")
	}
	if predicted.KeptOut == "no" { // again: testparm has a second's time
		s.until("locker lock names who is not kept out", named)
	} else if named() {
		s.t.Errorf("locker lock, of a bundle that doctor calls kept out: %s:\n%s", predicted.KeptOut, said)
	}
}

// hold locks the bundle, with the guard if there is to be one: it takes a moment to come up, and locks do not wait for it.
func (x trial) hold(s *site) {
	s.t.Helper()
	s.until("the hold rests on what it should", func() bool {
		if out := s.do(s.locker("lock", s.bundle())); !x.guard || strings.Contains(out, "guard") {
			return true
		}
		s.do(s.locker("unlock", s.bundle()))
		return false
	})
}

// whileHeld tries something while the hold rests on what it should, all the time: a guard that gets no processor for a second ends itself, and
// until the next one has come everybody is let in.
func (x trial) whileHeld(s *site, try func() outcome) (o outcome) {
	s.t.Helper()
	if !x.guard {
		return try()
	}
	s.until("one guard that guards all the while", func() bool {
		if !strings.Contains(s.do(s.locker("list")), ",guard") {
			return false
		}
		return s.sameGuard(func() { o = try() })
	})
	return o
}

// free tries everything while the bundle is not held.
func (x trial) free(s *site, m *mac, when string) {
	s.t.Helper()
	for _, file := range []string{"token", "bands/0"} {
		for _, v := range x.kind.verbs {
			if o := v.try(s, m, file); !o.opened || !o.done && v.past != "" {
				s.t.Errorf("%s of %s %s: %s", v.name, file, when, o.answer)
			}
		}
	}
}

// names tries what is done to a token by its name. It ends the bundle.
func (x trial) names(s *site, m *mac, predicted prediction) {
	s.t.Helper()
	token := filepath.Join(s.bundle(), "token")
	there := func(path string) bool {
		_, err := os.Lstat(path)
		return err == nil
	}
	for _, word := range []string{"rename", "delete"} {
		answer, _ := m.asks(strings.TrimSpace(word + " mac.sparsebundle/token " + map[string]string{"rename": "other"}[word]))
		if done, want := !there(token), slices.Contains(predicted.GetsThrough, word); done != want {
			s.t.Errorf("%s of a held token: %s, done: %v, want %v", word, answer, done, want)
		}
		if word == "rename" && !there(token) {
			must(s.t, os.Rename(filepath.Join(s.bundle(), "other"), token))
		}
	}
}
