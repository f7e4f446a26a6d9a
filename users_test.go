package locker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ordinaryUID is the user that root plays.
const ordinaryUID = 65533

// The scripts that need no root say the same to an ordinary user: root runs them once more as one, in places of his own.
func TestScriptsAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user; TestScripts has run as this one")
	}
	h := newHouse(t)
	if h.etc == "" {
		t.Skip(h.etcReason)
	}
	home := filepath.Join(h.etc, "home")
	tmp, err := os.MkdirTemp("", "lk") // short: sockets go there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	for _, dir := range []string{h.etc, home, tmp, filepath.Join(h.work, "testdata"), filepath.Join(h.work, "testdata/script")} {
		os.Mkdir(dir, 0o755)
		openDir(t, dir)
	}
	for _, dir := range []string{home, tmp} {
		if err := os.Chown(dir, ordinaryUID, ordinaryUID); err != nil {
			t.Fatal(err)
		}
	}
	copyForOthers(t, h.repo, h.work, "testdata/script/*.txtar", "docs/examples/*")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyProgram(t, self, filepath.Join(h.work, "locker.test"))
	out := runAs(t, ordinaryUID, h.work, []string{
		"HOME=" + home, "TMPDIR=" + tmp, "LOCKER_TEST_BIN=" + h.bin, "PATH=/usr/local/bin:/usr/bin:/bin", "LOCKER_TEST_ALL=",
	}, "./locker.test", "-test.run=^TestScripts$")
	if strings.Contains(out, "no tests to run") {
		t.Errorf("it ran nothing:\n%s", out)
	}
	runAs(t, ordinaryUID, h.work, []string{"HOME=" + home, "PATH=/usr/local/bin:/usr/bin:/bin"}, "sh", "docs/examples/demo.sh", h.bin)
}

// The demo says that all of it really happened, to whoever runs it; and it does not when it has not.
func TestDemoShowsWhatItSays(t *testing.T) {
	h := newHouse(t)
	demo := func(bin string, env ...string) (string, error) {
		cmd := exec.Command("sh", "docs/examples/demo.sh", bin)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for name, env := range map[string]string{"as it is": "DEMO=", "without a place for a policy": "HOME=/nonexistent"} {
		if out, err := demo(h.bin, env, "XDG_RUNTIME_DIR="); err != nil || !strings.HasSuffix(out, "all of it really happened\n") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	// A locker that grants everything, and one that does nothing.
	for _, fake := range []string{`[ "$1" = run ] && while [ "$1" != -- ]; do shift; done && shift && exec "$@"; exec "$REAL" "$@"`, "exit 0", "exit 120"} {
		bin := filepath.Join(t.TempDir(), "bin")
		if err := os.Mkdir(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		copyProgram(t, filepath.Join(h.bin, "lockerd"), filepath.Join(bin, "lockerd"))
		if err := os.WriteFile(filepath.Join(bin, "locker"), []byte("#!/bin/sh\n"+fake+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := demo(bin, "REAL="+filepath.Join(h.bin, "locker")); err == nil || !strings.Contains(out, "demo: FAILED: ") {
			t.Errorf("with a locker that does %q: %v\n%s", fake, err, out)
		}
	}
}

// copyForOthers copies files where other users can read them: the tree may be in root's home.
func copyForOthers(t *testing.T, from, to string, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		names, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %d files", pattern, err, len(names))
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(to, strings.TrimPrefix(name, from))
			for dir := filepath.Dir(file); dir != to; dir = filepath.Dir(dir) {
				os.MkdirAll(dir, 0o755)
				os.Chmod(dir, 0o755)
			}
			if err := os.WriteFile(file, text, 0o755); err != nil {
				t.Fatal(err)
			}
			os.Chmod(file, 0o755)
		}
	}
}

// runAs runs a program as uid, and fails the test with its output if it fails.
func runAs(t *testing.T, uid int, dir string, env []string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v as uid %s: %v\n%s", argv, strconv.Itoa(uid), err, out)
	}
	return string(out)
}
