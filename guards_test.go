package locker_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commandLine gives the words of a process; nil if there is none.
func commandLine(pid int) []string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

// plays reports whether a process is a broker or a guard, by its command line.
func plays(pid int, part string) bool {
	words := commandLine(pid)
	return len(words) > 1 && words[1] == part
}

// guard gives the pid of the guard of a lockerd in the foreground; 0 without one.
func (d *daemon) guard() int { return d.child("guard") }

// guards reports whether it has a guard whose socket is there.
func (d *daemon) guards() bool {
	words := commandLine(d.guard())
	at := slices.Index(words, "--guard")
	if at < 0 || at+1 >= len(words) {
		return false
	}
	info, err := os.Lstat(words[at+1])
	return err == nil && info.Mode()&os.ModeSocket != 0 && info.Mode().Perm() == 0o600
}

// guarded [NAME]: it has a guard, whose pid is $GUARD then, or with ! none, now or soon.
func scriptGuarded(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args)
	if neg && !eventually(func() bool { return d.guard() == 0 }) {
		ts.Fatalf("there is a guard, pid %d", d.guard())
	}
	if !neg && !eventually(d.guards) {
		ts.Fatalf("there is no guard")
	}
	ts.Setenv("GUARD", strconv.Itoa(d.guard()))
}

// slayGuard kills the guard, and waits until there is another.
func (d *daemon) slayGuard(ts *testscript.TestScript) {
	old := d.guard()
	if old == 0 {
		ts.Fatalf("there is no guard")
	}
	ts.Check(syscall.Kill(old, unix.SIGKILL))
	if !eventually(func() bool { return d.guard() != old && d.guards() }) {
		ts.Fatalf("no other guard is started")
	}
}

// slayWithGuard kills lockerd, and its guard ends by itself.
func (d *daemon) slayWithGuard(ts *testscript.TestScript) {
	guard := d.guard()
	d.orphan = true
	ts.Check(d.cmd.Process.Kill())
	<-d.exited
	if guard != 0 && !eventually(func() bool { return !plays(guard, "guard") }) {
		ts.Fatalf("the guard, pid %d, outlives its lockerd", guard)
	}
}
