package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stage is a fake lockerd, a directory, and the locker that talks to it.
type stage struct {
	t   *testing.T
	f   *fakeLockerd
	dir string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk") // short: unix(7) allows 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, f: startFake(t, filepath.Join(dir, "s")), dir: dir}
	t.Cleanup(func() {
		s.f.stop()
		os.RemoveAll(dir)
	})
	return s
}

// locker makes a command in a session of its own, without a terminal.
func (s *stage) locker(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), "locker", args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LOCKER_SOCKET="+s.f.socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// ready waits for the played command and gives its pid.
func (s *stage) ready() (pid int) {
	s.t.Helper()
	eventually(s.t, "the command runs", func() bool {
		text, _ := os.ReadFile(filepath.Join(s.dir, "ready"))
		pid, _ = strconv.Atoi(string(text))
		return pid > 0
	})
	s.t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// log gives the signals that the played command has had.
func (s *stage) log() []string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return strings.Fields(strings.ReplaceAll(string(text), " ", "-"))
}

// logs waits until the played command has had just these signals.
func (s *stage) logs(want ...string) {
	s.t.Helper()
	eventually(s.t, strings.Join(want, " ")+" in the log of the command", func() bool { return len(s.log()) >= len(want) })
	if got := s.log(); !slices.Equal(got, want) {
		s.t.Fatalf("the command got %q, want %q", got, want)
	}
}

func (s *stage) free(name string) bool {
	held, _ := s.f.state()
	return !slices.Contains(held, filepath.Join(s.dir, name))
}

func (s *stage) waited(name string) bool {
	_, waited := s.f.state()
	return slices.Contains(waited, filepath.Join(s.dir, name))
}

// exitOf waits for cmd and gives its code, 128+N for a signal. A cmd that does not end is killed.
func exitOf(cmd *exec.Cmd) int {
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	cmd.Wait()
	return exitCode(cmd.ProcessState.Sys().(syscall.WaitStatus))
}

func start1(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// alive reports whether the process runs; a zombie does not.
func alive(pid int) bool { return !slices.Contains([]string{"", "Z", "X"}, stateOf(pid)) }

func TestSignalsAreForwardedOnceWithoutATerminal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker("run", "f", "--", "played", "waits", s.dir)
	start1(t, cmd)
	s.ready()
	var want []string
	for sig, name := range map[syscall.Signal]string{
		syscall.SIGINT: "interrupt", syscall.SIGQUIT: "quit", syscall.SIGHUP: "hangup", syscall.SIGUSR1: "user-defined-signal-1",
		syscall.SIGUSR2: "user-defined-signal-2", syscall.SIGWINCH: "window-changed", syscall.SIGCONT: "continued",
	} {
		cmd.Process.Signal(sig)
		want = append(want, name)
		s.logs(want...)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if code := exitOf(cmd); code != 7 {
		t.Errorf("exit code %d, want the command's 7", code)
	}
	s.logs(append(want, "terminated")...)
	if !s.free("f") {
		t.Error("the lock is still held")
	}
}

func TestStoppedCommandGoesOnWhenContinued(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker("run", "f", "--", "played", "waits", s.dir)
	start1(t, cmd)
	pid := s.ready()
	cmd.Process.Signal(syscall.SIGTSTP)
	eventually(t, "the command is stopped", func() bool { return stateOf(pid) == "T" })
	cmd.Process.Signal(syscall.SIGCONT)
	s.logs("continued")
	cmd.Process.Signal(syscall.SIGTERM)
	if code := exitOf(cmd); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

// stateOf gives the letter of proc_pid_stat(5).
func stateOf(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))[0]
}

func TestTerminalsOwnSignalsReachTheCommandOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker("run", "f", "--", "played", "waits", s.dir)
	x := onTerminal(t, cmd)
	s.ready()
	x.types("\x03") // Ctrl-C
	s.logs("interrupt")
	x.types("\x1c") // Ctrl-\
	s.logs("interrupt", "quit")
	if err := unix.IoctlSetWinsize(int(x.keys.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 90}); err != nil {
		t.Fatal(err)
	}
	s.logs("interrupt", "quit", "window-changed")
	cmd.Process.Signal(syscall.SIGUSR1)
	s.logs("interrupt", "quit", "window-changed", "user-defined-signal-1")
	cmd.Process.Signal(syscall.SIGTERM)
	if code := exitOf(cmd); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

func TestCommandReadsTheTerminal(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker("run", "f", "--", "sh", "-c", "read x && echo got $x")
	x := onTerminal(t, cmd)
	x.types("hello\n")
	x.shows("got hello")
	if code := exitOf(cmd); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestJobControlOfTheShellGoesOnWorking(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash:", err)
	}
	s := newStage(t)
	cmd := s.locker()
	cmd.Path, cmd.Args = bash, []string{"bash", "--norc", "--noediting", "-i"}
	x := onTerminal(t, cmd)
	x.types("locker run f -- sh -c 'touch ready2; read x && echo got $x' | cat\n")
	eventually(t, "the command runs", func() bool { _, err := os.Stat(filepath.Join(s.dir, "ready2")); return err == nil })
	x.types("\x1a") // Ctrl-Z
	x.shows("Stopped")
	if s.free("f") {
		t.Error("the lock of a stopped job is gone")
	}
	x.types("fg\n")
	x.types("there\n")
	x.shows("got there")
	x.types("exit 4\n")
	if code := exitOf(cmd); code != 4 {
		t.Errorf("exit code %d", code)
	}
}

func TestKilledLockerTakesTheCommandAlong(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker("run", "f", "--", "played", "ignores", s.dir)
	start1(t, cmd)
	s.ready()
	cmd.Process.Kill()
	// Perhaps more than once: the kernel sends it for each thread of locker's that ends before the last.
	eventually(t, "the command got SIGTERM", func() bool { return slices.Contains(s.log(), "terminated") })
	eventually(t, "the lock is free", func() bool { return s.free("f") })
}

func TestKilledLockerLeavesTheCommandAloneIfToldSo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker("run", "--on-loss", "warn", "f", "--", "played", "ignores", s.dir)
	start1(t, cmd)
	pid := s.ready()
	cmd.Process.Kill()
	cmd.Wait()
	syscall.Kill(pid, syscall.SIGUSR1)
	s.logs("user-defined-signal-1")
}

// The next holder is let in only when everybody is gone whom the command has started, however stubborn.
func TestLossEndsStubbornGrandchildrenBeforeTheNextHolder(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the 10 seconds from SIGTERM to SIGKILL")
	}
	for name, withTerminal := range map[string]bool{"without a terminal": false, "on a terminal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			cmd := s.locker("run", "f", "--", "played", "leaves", s.dir)
			if withTerminal {
				onTerminal(t, cmd)
			} else {
				start1(t, cmd)
			}
			grandchild := s.ready()
			began := time.Now()
			s.f.loses(filepath.Join(s.dir, "f"))
			// In either order: signal(7) promises none for signals that are pending together.
			eventually(t, "TERM and CONT in the log of the command", func() bool {
				got := s.log()
				slices.Sort(got)
				return slices.Equal(got, []string{"continued", "terminated"})
			})
			eventually(t, "the lock is free", func() bool {
				free := s.free("f")
				if free && alive(grandchild) {
					t.Error("the lock is free while the grandchild lives")
				}
				return free
			})
			if code := exitOf(cmd); code != exitSignal+int(syscall.SIGTERM) {
				t.Errorf("exit code %d, want the command's 143", code)
			}
			if d := time.Since(began); d < killAfter {
				t.Errorf("killed after %v, want %v", d, killAfter)
			}
		})
	}
}

func TestLossEndsAStoppedCommand(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker("run", "f", "--", "played", "waits", s.dir)
	start1(t, cmd)
	pid := s.ready()
	cmd.Process.Signal(syscall.SIGTSTP)
	eventually(t, "the command is stopped", func() bool { return stateOf(pid) == "T" })
	s.f.loses(filepath.Join(s.dir, "f"))
	if code := exitOf(cmd); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

func TestIgnoredHangupStaysIgnored(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.locker()
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `trap "" HUP; exec locker run f -- played waits "$0"`, s.dir}
	start1(t, cmd)
	s.ready()
	cmd.Process.Signal(syscall.SIGHUP)
	cmd.Process.Signal(syscall.SIGUSR1)
	s.logs("user-defined-signal-1")
	cmd.Process.Signal(syscall.SIGTERM)
	exitOf(cmd)
}

func TestSignalEndsTheWaitAndLeavesTheQueue(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"lock", "f"}, {"run", "f", "--", "true"}, {"-lock", "-path", "f"}} {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
			s := newStage(t)
			s.f.bobHolds(filepath.Join(s.dir, "f"), "")
			cmd := s.locker(args...)
			start1(t, cmd)
			eventually(t, "it waits", func() bool { return s.waited("f") })
			cmd.Process.Signal(sig)
			if code := exitOf(cmd); code != exitSignal+int(sig) {
				t.Errorf("%v, %v: exit code %d, want %d", args, sig, code, exitSignal+int(sig))
			}
			if s.waited("f") {
				t.Errorf("%v, %v: it is still in the queue", args, sig)
			}
		}
	}
}

func TestSignalEndsTheWaitForAMuteLockerd(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.f.mu.Lock() // it accepts, and says nothing
	cmd := s.locker("lock", "f")
	start1(t, cmd)
	eventually(t, "it dials", func() bool { return hasSocket(cmd.Process.Pid) })
	cmd.Process.Signal(syscall.SIGINT)
	code := exitOf(cmd)
	s.f.mu.Unlock()
	if code != exitSignal+int(syscall.SIGINT) {
		t.Errorf("exit code %d, want 130", code)
	}
}

// hasSocket reports whether the process has opened a socket; by then it heeds signals.
func hasSocket(pid int) bool {
	names, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	return slices.ContainsFunc(names, func(name string) bool {
		target, _ := os.Readlink(name)
		return strings.HasPrefix(target, "socket:")
	})
}

func TestWaitingIsShownOnATerminalAndClearedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	path := filepath.Join(s.dir, "f")
	s.f.bobHolds(path, "nightly \x1b[31m restic")
	cmd := s.locker("lock", "f")
	x := onTerminal(t, cmd)
	line := "locker: waiting, we are next: " + path + ` is held by bob (pid 4312)`
	x.shows("\r" + line)
	again := strings.Count(x.text(), line)
	eventually(t, "the line is written anew", func() bool { return strings.Count(x.text(), line) > again })
	s.f.bobFrees(path)
	x.shows("\r\x1b[Klocked " + path)
	if code := exitOf(cmd); code != 0 {
		t.Errorf("exit code %d", code)
	}
	<-x.done
	for _, part := range strings.Split(x.text(), "\r") {
		if part = strings.TrimSuffix(part, "\x1b[K"); len(part) > 99 {
			t.Errorf("a line of %d columns on a terminal of 100: %q", len(part), part)
		}
	}
}
