package keeper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Some laws need other processes. They are this test binary again, told by an environment variable what to play.
const roleVariable = "LOCKER_KEEPER_ROLE"

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

// play runs in the child. It says "ready" on stdout when the test may look, and ends with its stdin.
func play(role string, args []string) error {
	switch role {
	case "keeper": // at the socket args[0]
		l, err := Listen(args[0])
		if err != nil {
			return err
		}
		// One write for each line, whichever goroutine says it.
		s := &Server{Warn: func(msg string, kv ...any) { fmt.Fprintln(os.Stdout, append([]any{"warn:", msg}, kv...)...) }}
		go s.Serve(context.Background(), l)
	case "broker": // locks the file args[1] and puts it args[2] times to the keeper args[0]
		f, err := os.OpenFile(args[1], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		defer f.Close()
		c, err := Dial(context.Background(), args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		for id := range n {
			if err := c.Put(Entry{ID: uint64(id), Blob: []byte("in flight"), Lock: int(f.Fd()), Holder: -1}); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("unknown role %q", role)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// child is another process of the test's.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild starts a role and waits until it is ready.
func startChild(t testing.TB, role string, args ...string) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	c := &child{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(c.kill)
	if line := c.line(); line != "ready\n" {
		t.Fatalf("%s: %q", role, line)
	}
	return c
}

// line is the next that the child says.
func (c *child) line() string {
	line, err := c.out.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return line
}

// kill is SIGKILL, and waits until nothing of the child is left.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func (c *child) signal(sig syscall.Signal) {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(sig))
}

// stop is SIGSTOP, and waits until the child has stopped.
func (c *child) stop() {
	c.t.Helper()
	c.signal(unix.SIGSTOP)
	var status unix.WaitStatus
	_, err := unix.Wait4(c.cmd.Process.Pid, &status, unix.WUNTRACED, nil)
	if err != nil || !status.Stopped() {
		c.t.Fatalf("stop the child: %v %v", err, status)
	}
}

// fds is how many descriptors the child has.
func (c *child) fds() int {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	must(c.t, err)
	return len(names)
}

// leaveFree sets RLIMIT_NOFILE of the child so that it can open so many descriptors more, and gives what the limit was.
func (c *child) leaveFree(n int) uint64 {
	c.t.Helper()
	limit := 0 // the lowest number that the next descriptor must not have
	for ; ; limit++ {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", c.cmd.Process.Pid, limit)); errors.Is(err, os.ErrNotExist) {
			if n == 0 {
				return c.limit(uint64(limit))
			}
			n--
		}
	}
}

// limit sets RLIMIT_NOFILE of the child and gives what it was. prlimit(2)
func (c *child) limit(soft uint64) uint64 {
	c.t.Helper()
	var old unix.Rlimit
	must(c.t, unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &old))
	must(c.t, unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: soft, Max: old.Max}, nil))
	return old.Cur
}

// runsAsOrdinaryUser runs this test in a process of an ordinary user when we are root, to whom its law does not apply, and
// reports whether it did.
func runsAsOrdinaryUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(dir+"/..", 0o755))
	binary := dir + "/keeper.test" // our own lies where only we get to
	text, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(binary, text, 0o755))
	cmd := exec.Command(binary, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("as uid 65533: %v\n%s", err, out)
	}
	return true
}

// as runs do on a thread that the kernel takes for another user's. The process stays the test's.
func as(t testing.TB, uid uint32, do func()) {
	t.Helper()
	needRoot(t, "acting as other users")
	var errno syscall.Errno
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with this goroutine, and its ids with it
		const same = ^uintptr(0)
		// The bare system call: the library's is for all threads.
		if _, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno == 0 {
			do()
		}
	}()
	<-done
	if errno != 0 {
		t.Fatalf("become %d: %v", uid, errno)
	}
}

// endsAtOnce reports whether a connection has ended at the other end.
func endsAtOnce(conn *net.UnixConn) error {
	n, err := conn.Read(make([]byte, maxMessage))
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return fmt.Errorf("read %d bytes, %v", n, err)
}
