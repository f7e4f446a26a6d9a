package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
		"leaves children": {"#!/bin/sh\necho lockerd 1\nsleep 3 & \n", 0o755, "WaitDelay"},
	} {
		program := filepath.Join(dir, name)
		if err := os.WriteFile(program, []byte(test.text), test.mode); err != nil {
			t.Fatal(err)
		}
		err := tryProgram(program, options{config: "/c"})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	if err := tryProgram(filepath.Join(dir, "nothing"), options{}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a program that is not there: %v", err)
	}
	self := filepath.Join(dir, "standalone") // without a policy file there is none to check
	if err := os.WriteFile(self, []byte("#!/bin/sh\n[ $1 = --version ] && echo lockerd 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := tryProgram(self, options{allow: []string{"/a"}}); err != nil {
		t.Error(err)
	}
}
