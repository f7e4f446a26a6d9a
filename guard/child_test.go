package guard

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Some laws need other processes. They are this test binary again, told by an environment variable what to play.
const roleVariable = "LOCKER_GUARD_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role, os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// keepCapabilities takes all other capabilities from this process for ever, and plays a role then. capabilities(7)
func keepCapabilities(names []string, role string, args []string) error {
	runtime.LockOSThread() // they are of a thread, and execve(2) makes this one the process
	keep := map[uint]bool{}
	for _, c := range needed {
		keep[c.bit] = slices.Contains(names, c.name)
	}
	for bit := uint(0); bit <= unix.CAP_LAST_CAP; bit++ {
		if keep[bit] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(bit), 0, 0, 0); err != nil && err != unix.EINVAL { // one that this kernel has not
			return err
		}
	}
	if err := os.Setenv(roleVariable, role); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", append([]string{"guard.test"}, args...), os.Environ())
}

// play runs in the child. It says "ready" on stdout when the test may look, and ends with its stdin.
func play(role string, args []string) error {
	switch role {
	case "guard": // at the socket args[0], with the patience args[1]; args[2] says which part hangs when $hang is there
		l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: args[0], Net: "unixpacket"})
		if err != nil {
			return err
		}
		patience, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		s := &Server{patience: patience}
		hang := func() {
			if _, err := os.Lstat(args[3]); err == nil {
				select {}
			}
		}
		switch args[2] {
		case "session":
			s.watching = hang
		case "reader":
			s.judging = hang
		}
		go s.Serve(context.Background(), l)
	case "broker": // guards the directories args[2:] against args[1] at the guard args[0]
		c, err := Dial(context.Background(), args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Deny(context.Background(), args[1:2]); err != nil {
			return err
		}
		for id, path := range args[2:] {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if err := c.Guard(context.Background(), uint64(id)+1, []int{fd}); err != nil {
				return err
			}
		}
	case "opener": // opens what it is told to
		fmt.Println("ready")
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			how, path, _ := strings.Cut(in.Text(), " ")
			flags := map[string]int{"read": os.O_RDONLY, "write": os.O_RDWR, "create": os.O_RDWR | os.O_CREATE | os.O_EXCL, "nonblock": os.O_RDONLY | unix.O_NONBLOCK}[how]
			fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
			if err == nil {
				unix.Close(fd)
			}
			fmt.Println(wordOf(err))
		}
		return nil
	case "lessor": // has a write lease on args[0], and does not give it back
		signal.Ignore(unix.SIGIO)
		f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
			return err
		}
	case "caps": // keeps the capabilities args[0], joined by commas, and plays args[1]
		return keepCapabilities(strings.Split(args[0], ","), args[1], args[2:])
	case "available": // says whether a guard could be here
		fmt.Println(wordOf(Available()))
	default:
		return fmt.Errorf("unknown role %q", role)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

func wordOf(err error) string {
	if err == nil {
		return "opened"
	}
	return err.Error()
}

const (
	refused = "operation not permitted"
	opened  = "opened"
)

// child is another process of the test's.
type child struct {
	t    testing.TB
	exe  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	says chan string // lines
	end  sync.WaitGroup
}

// startChild starts a role from this binary, and waits until it is ready.
func startChild(t testing.TB, role string, args ...string) *child {
	t.Helper()
	return startAs(t, "/proc/self/exe", role, args...)
}

// program makes this test binary a program of that name in a directory of its own.
func program(t testing.TB, name string) string {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	install(t, self, path)
	return path
}

// install links or copies: another program never writes it while we fork (ETXTBSY).
func install(t testing.TB, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		return
	}
	text, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, text, 0o755))
}

func startAs(t testing.TB, exe, role string, args ...string) *child {
	t.Helper()
	return start(t, exec.Command(exe, args...), role, nil)
}

func start(t testing.TB, cmd *exec.Cmd, role string, attr *syscall.SysProcAttr) *child {
	t.Helper()
	c := &child{t: t, exe: cmd.Path, cmd: cmd, says: make(chan string, 64)}
	c.cmd.SysProcAttr = attr
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	c.cmd.Stderr = os.Stderr
	var err error
	c.in, err = c.cmd.StdinPipe()
	must(t, err)
	out, err := c.cmd.StdoutPipe()
	must(t, err)
	must(t, c.cmd.Start())
	c.end.Go(func() {
		defer close(c.says)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			c.says <- lines.Text()
		}
	})
	t.Cleanup(c.kill)
	if line := c.line(); line != "ready" {
		t.Fatalf("%s: %q", role, line)
	}
	return c
}

// line is the next that the child says.
func (c *child) line() string {
	c.t.Helper()
	late := time.NewTimer(soon)
	defer late.Stop()
	select {
	case line, ok := <-c.says:
		if !ok {
			return "end"
		}
		return line
	case <-late.C:
		c.t.Fatalf("%s says nothing for %v", c.exe, soon)
		return ""
	}
}

// ask tells an opener what to do; answer waits for what came of it.
func (c *child) ask(how, path string) {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in, how, path)
	must(c.t, err)
}

func (c *child) open(how, path string) string {
	c.t.Helper()
	c.ask(how, path)
	return c.line()
}

func (c *child) want(want, how, path string) {
	c.t.Helper()
	if got := c.open(how, path); got != want {
		c.t.Errorf("%s: %s %s: %s; want %s", filepath.Base(c.exe), how, path, got, want)
	}
}

// kill is SIGKILL, and waits until nothing of the child is left.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	c.in.Close()
	c.end.Wait()
}

// stop is SIGSTOP, and waits until the child has stopped.
func (c *child) stop() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(unix.SIGSTOP))
	var status unix.WaitStatus
	_, err := unix.Wait4(c.cmd.Process.Pid, &status, unix.WUNTRACED, nil)
	if err != nil || !status.Stopped() {
		c.t.Fatalf("stop the child: %v %v", err, status)
	}
}

// wantKilled waits until the child has died of SIGKILL.
func (c *child) wantKilled() {
	c.t.Helper()
	c.cmd.Wait()
	if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGKILL {
		c.t.Errorf("the child ended with %v; want SIGKILL", c.cmd.ProcessState)
	}
}
