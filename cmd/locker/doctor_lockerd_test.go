package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"locker/client"
	"locker/wire"
)

func TestCapabilitiesAreLockerds(t *testing.T) {
	d := newDoctor()
	d.proc = t.TempDir()
	write := func(pid, text string) {
		if err := errors.Join(os.MkdirAll(d.proc+"/"+pid, 0o755), os.WriteFile(d.proc+"/"+pid+"/status", []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("7", "Name:\tlockerd\nCapEff:\t0000000010200000\n")
	write("8", "Name:\tsmbd\nCapEff:\t0000000010200000\n")
	caps, ok := d.capabilitiesOf(7)
	r := lockerdReport{capabilities: caps, capsKnown: ok}
	if !ok || !r.can(unix.CAP_SYS_ADMIN) || !r.can(unix.CAP_LEASE) || r.can(unix.CAP_CHOWN) {
		t.Errorf("%x, %v", caps, ok)
	}
	for _, pid := range []int{8, 9} {
		if _, ok := d.capabilitiesOf(pid); ok {
			t.Errorf("pid %d is taken for lockerd", pid)
		}
	}
}

func TestStateDirectoryIsWhereLockerdHasItsLogOpen(t *testing.T) {
	d := newDoctor()
	d.proc = t.TempDir()
	status := answers(&wire.Status{}).(*wire.StatusReply)
	fds := filepath.Join(d.proc, strconv.Itoa(int(status.BrokerPID)), "fd")
	if err := errors.Join(os.MkdirAll(fds, 0o755), os.Symlink("/dev/null", fds+"/0"), os.Symlink("/srv/state/audit/"+status.AuditSegment, fds+"/5")); err != nil {
		t.Fatal(err)
	}
	if dir := d.stateDir(status); dir != "/srv/state" {
		t.Errorf("found %q", dir)
	}
}

func TestPolicyFileIsCheckedByLockerd(t *testing.T) {
	tests := []struct {
		script  string
		problem string
	}{
		{"exit 0", ""},
		{"test \"$1 $2\" = '--check --config' && test -e \"$3\"", ""},
		{"printf '/p:1: bad\\n/p:2: unknown key \\033[31m\\n' >&2; exit 1", `lockerd --check: exit status 1: /p:2: unknown key \x1b[31m; see 'locker policy check'`},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(dir+"/lockerd", []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755), os.WriteFile(dir+"/policy", nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		d := patientDoctor()
		d.programs = programs{dirs: []string{dir}}
		r := lockerdReport{status: &client.Status{PolicyFile: dir + "/policy"}}
		r.check(t.Context(), d)
		if got := strings.Join(r.problems(), "|"); !r.checked || got != tt.problem {
			t.Errorf("%s: checked %v, problems %q, want %q", tt.script, r.checked, got, tt.problem)
		}
		r = lockerdReport{status: &client.Status{}} // it runs without a policy file
		if r.check(t.Context(), d); r.checked {
			t.Errorf("%s: a policy that lockerd does not use is checked", tt.script)
		}
	}
}

func TestWhatAilsLockerdIsAProblem(t *testing.T) {
	tests := []struct {
		r    lockerdReport
		want string // in the only problem; "" for none
	}{
		{lockerdReport{status: &client.Status{}, stateDir: "/s", free: 1 << 30}, ""},
		{lockerdReport{status: &client.Status{}, stateDir: "/s", spaceErr: unix.EACCES}, ""},
		{lockerdReport{err: client.ErrUnreachable}, "cannot be reached"},
		{lockerdReport{status: &client.Status{AuditError: "disk full"}}, "grants nothing: disk full"},
		{lockerdReport{status: &client.Status{PolicyError: "x"}}, "refuses its newest policy file"},
		{lockerdReport{status: &client.Status{}, stateDir: "/s", free: 5 << 20}, "/s: only 5.0 MiB free"},
	}
	for _, tt := range tests {
		got := tt.r.problems()
		if tt.want == "" && len(got) != 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
			t.Errorf("%+v: problems %q, want %q", tt.r, got, tt.want)
		}
	}
}
