package fileservers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sameGuard does something, and reports whether one guard was there all the while.
func (s *site) sameGuard(do func()) bool {
	before := s.guard()
	do()
	return before != 0 && s.guard() == before
}

// A guard that gets no processor for a second ends itself, and until the next one has come everybody is let in: what was tried meanwhile says
// nothing about it.

const notGuarded = 77 // the exit code of a command whose lock does not rest on the guard

// unguarded begins the script of a command that runs under a lock.
func (s *site) unguarded() string {
	if !s.guarded {
		return ""
	}
	return fmt.Sprintf("%s/locker list | grep -q ,guard || exit %d; ", s.bin, notGuarded)
}

// doGuarded is do for such a command; false: if there is to be a guard, it was not there all the while.
func (s *site) doGuarded(run *exec.Cmd) bool {
	s.t.Helper()
	if !s.guarded {
		s.do(run)
		return true
	}
	var out []byte
	var err error
	same := s.sameGuard(func() { out, err = run.CombinedOutput() })
	if err != nil && run.ProcessState.ExitCode() != notGuarded {
		s.t.Fatalf("%v: %v\n%s", run.Args, err, out)
	}
	return err == nil && same
}

// guard is the pid of the guard of the site's lockerd, 0 without one that lives. proc_pid_stat(5), proc_pid_cmdline(5)
func (s *site) guard() int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	i := slices.IndexFunc(stats, func(name string) bool {
		text, err := os.ReadFile(name)
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])) // a program's name may hold a ")"
		if err != nil || len(fields) < 2 || fields[1] != strconv.Itoa(s.server) {
			return false
		}
		words, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline")) // empty of one that has ended
		return err == nil && strings.HasPrefix(string(words), "lockerd\x00guard\x00")
	})
	if i < 0 {
		return 0
	}
	pid := 0
	fmt.Sscanf(stats[i], "/proc/%d/", &pid)
	return pid
}
