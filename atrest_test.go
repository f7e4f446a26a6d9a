package locker_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// When a lockerd has done all that it was asked for. Of some of it, it tells nobody.

// atRest reports whether a process has nothing to do: none of its threads runs or waits for a disk, and no signal is on its way to it. It is
// asked twice, since one thread may hand on to another that was looked at before. proc_pid_stat(5), proc_pid_status(5)
func atRest(pid int) bool {
	for range 2 {
		if !sleeps(pid) {
			return false
		}
	}
	return true
}

func sleeps(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			return false
		}
		for line := range bytes.Lines(text) {
			field, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":\t")
			pending := field == "SigPnd" || field == "ShdPnd"
			if pending && strings.Trim(value, "0") != "" || field == "State" && !strings.HasPrefix(value, "S") {
				return false
			}
		}
	}
	return len(threads) > 0
}

// upgraded reports whether no upgrade is under way, nor one to come: each that begins says so in the log, and how it ended.
func (d *daemon) upgraded() bool {
	text, err := os.ReadFile(d.log)
	begun := bytes.Count(text, []byte("upgrade: trying the program"))
	ended := 0
	for _, end := range []string{"upgraded: version=", "upgrade refused, ", "upgrade failed, "} {
		ended += bytes.Count(text, []byte(end))
	}
	return err == nil && begun == ended && atRest(d.cmd.Process.Pid)
}

// refused PATTERN [NAME]: send SIGUSR2, and wait until an upgrade has been refused, for this reason. One that was refused since the new
// program said nothing in time is asked for again: on a busy machine that may be any.
func scriptRefused(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args[1:])
	refusals := func() []string {
		text, err := os.ReadFile(d.log)
		ts.Check(err)
		return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return !strings.Contains(line, "upgrade refused, ") })
	}
	last := ""
	refused := func() bool {
		before := len(refusals())
		ts.Check(d.cmd.Process.Signal(unix.SIGUSR2))
		if !eventually(func() bool { return len(refusals()) > before && d.upgraded() }) {
			ts.Fatalf("no upgrade is refused")
		}
		all := refusals()
		last = all[len(all)-1]
		return !strings.Contains(last, "no answer within")
	}
	if !eventually(refused) || !strings.Contains(last, args[0]) {
		ts.Fatalf("refused: %s", last)
	}
}

// opened NAME FILE: wait until a program called so has the file open. Who opens it may be called otherwise first: execve(2).
func scriptOpened(ts *testscript.TestScript, neg bool, args []string) {
	want, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	opened := func() bool {
		fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		return slices.ContainsFunc(fds, func(fd string) bool {
			is, err := os.Stat(fd)
			if err != nil || !os.SameFile(is, want) {
				return false
			}
			comm, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fd)), "comm"))
			return err == nil && string(comm) == args[0]+"\n"
		})
	}
	if !eventually(opened) {
		ts.Fatalf("no %s has %s open", args[0], args[1])
	}
}

// limit broker|keeper N [NAME]: when it is at rest, let it open N descriptors more than it has open, from now on. The limit is of their
// numbers, of which some below those that it has may be free: getrlimit(2).
func scriptLimit(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args[2:])
	pid := d.cmd.Process.Pid
	if args[0] == "broker" {
		pid = d.broker()
	}
	more, err := strconv.Atoi(args[1])
	ts.Check(err)
	if !eventually(func() bool { return atRest(pid) }) { // else connections that have just ended are still open
		ts.Fatalf("the %s does not come to rest", args[0])
	}
	var now unix.Rlimit
	ts.Check(unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now))
	for now.Cur = 0; ; now.Cur++ {
		_, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, now.Cur))
		if err == nil {
			continue
		}
		if more--; more < 0 {
			break
		}
	}
	ts.Check(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &now, nil))
}

// left reports that processes of it are left, though they may have time to end. Only a guard has: nobody waits for what it does.
func (d *daemon) left(hasTime bool) bool {
	none := func() bool { return syscall.Kill(-d.cmd.Process.Pid, 0) == syscall.ESRCH }
	return !none() && !(hasTime && eventually(none))
}
