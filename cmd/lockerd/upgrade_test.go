package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tryInTime is tryProgram, again if a program that answers at once has not done so in time: the machine was busy.
func tryInTime(program string, o options) (err error) {
	for range 10 {
		if err = tryProgram(program, o); err == nil || !strings.Contains(err.Error(), "no answer within") {
			break
		}
	}
	return err
}

func TestProgramIsTriedBeforeItTakesOver(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		want string // "": it is fine
	}{
		"good":            {"#!/bin/sh\necho lockerd 1.2.3\n", 0o755, ""},
		"exits":           {"#!/bin/sh\necho no libc >&2\nexit 3\n", 0o755, "exit status 3: no libc"},
		"dies":            {"#!/bin/sh\nkill -SEGV $$\n", 0o755, "segmentation fault"},
		"another":         {"#!/bin/sh\necho locker 1.2.3\n", 0o755, "is no lockerd"},
		"not executable":  {"#!/bin/sh\necho lockerd 1.2.3\n", 0o644, "permission denied"},
		"cut":             {"\x7fELF", 0o755, "exec format error"},
		"empty":           {"", 0o755, "exec format error"},
		"bad policy":      {"#!/bin/sh\n[ $1 = --version ] && echo lockerd 1 && exit\necho no such user >&2; exit 1\n", 0o755, "--check: exit status 1: no such user"},
		"talks too much":  {"#!/bin/sh\nyes lockerd | head -c 1000000; exit 1\n", 0o755, "exit status 1"},
		"leaves children": {"#!/bin/sh\necho lockerd 1\nsleep 1000 &\necho $! >$0.pid\n", 0o755, "WaitDelay"},
	} {
		program := filepath.Join(dir, name)
		if err := os.WriteFile(program, []byte(test.text), test.mode); err != nil {
			t.Fatal(err)
		}
		err := tryInTime(program, options{config: "/c"})
		if text, rerr := os.ReadFile(program + ".pid"); rerr == nil { // it is still there: nothing that has ended could have been waited for
			pid, perr := strconv.Atoi(strings.TrimSpace(string(text)))
			if perr != nil || pid < 2 || unix.Kill(pid, unix.SIGKILL) != nil {
				t.Errorf("%s: its child %q cannot be ended", name, text)
			}
		}
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if err := tryInTime(filepath.Join(dir, "nothing"), options{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a program that is not there: %v", err)
	}
	self := filepath.Join(dir, "standalone") // without a policy file there is none to check
	if err := os.WriteFile(self, []byte("#!/bin/sh\n[ $1 = --version ] && echo lockerd 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tryInTime(self, options{allow: []string{"/a"}}); err != nil {
		t.Error(err)
	}
}

// A signal that came while an upgrade was being prepared is heeded by whoever got it, and none that comes later is lost.
func TestAnUpgradeSwallowsNoSignal(t *testing.T) {
	for _, sig := range heeded {
		s := &supervisor{signals: make(chan os.Signal, 16), self: filepath.Join(t.TempDir(), "nothing")}
		signal.Notify(s.signals, heeded...)
		defer signal.Stop(s.signals)
		if err := s.runInPlace(nil); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("without a signal: %v, want that there is no such program", err)
		}
		// As though it had just come.
		s.signals <- sig
		if err := s.runInPlace(nil); !errors.Is(err, errSignalled) {
			t.Errorf("with %v: %v, want %v", sig, err, errSignalled)
		}
		<-s.signals
		if err := unix.Kill(unix.Getpid(), sig.(unix.Signal)); err != nil {
			t.Fatal(err)
		}
		if got := <-s.signals; got != sig {
			t.Errorf("%v came after %v", got, sig)
		}
	}
}

// What is installed between the trial and the take-over is tried first.
func TestOnlyTheProgramThatWasTriedTakesOver(t *testing.T) {
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { // not executable: to have been run is to be refused that
			t.Fatal(err)
		}
	}
	for name, install := range map[string]func(self string) error{
		"nothing": func(string) error { return nil },
		"renamed over it": func(self string) error {
			write(self+".new", "tried")
			return os.Rename(self+".new", self)
		},
		"written over it": func(self string) error {
			write(self, "other")
			return os.Chtimes(self, time.Time{}, time.Unix(1, 0))
		},
		"removed": os.Remove,
	} {
		s := &supervisor{signals: make(chan os.Signal, 16), self: filepath.Join(t.TempDir(), "lockerd")}
		signal.Notify(s.signals, heeded...)
		defer signal.Stop(s.signals)
		write(s.self, "tried")
		s.upgrade.trial = programAt(s.self)
		if err := install(s.self); err != nil {
			t.Fatal(err)
		}
		want := errAnother
		if name == "nothing" {
			want = os.ErrPermission
		}
		if err := s.runInPlace(nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}

// The loop may not have heard of it yet.
func TestAGuardThatHasJustEndedKeepsNobodyFromAnUpgrade(t *testing.T) {
	where := place(t)
	where.stateDir = t.TempDir()
	s := &supervisor{public: mustListen(t, where)}
	defer s.release()
	var err error
	if s.keeper, err = keepBeside(where, false); err != nil {
		t.Fatal(err)
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	report := func() *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r
	}
	s.broker = &child{process: self, report: report()}
	s.guards.child = &child{process: self, report: report()}
	for _, ended := range []bool{false, true} {
		if ended {
			s.guards.child.report.Close()
		}
		text, free, err := s.carry()
		free()
		var c carried
		if err := errors.Join(err, json.Unmarshal([]byte(text), &c)); err != nil {
			t.Errorf("ended %v: %v", ended, err)
		}
		if carries := c.Guard != 0 && c.GuardSays > 2; carries == ended || ended && c.Guard != 0 {
			t.Errorf("ended %v: it carries guard %d, which reports to %d", ended, c.Guard, c.GuardSays)
		}
	}
	s.broker.report.Close()
	_, free, err := s.carry()
	free()
	if err == nil {
		t.Error("it carries a broker that has ended")
	}
}
