package broker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"locker/keeper"
	"locker/wire"
)

// Some laws need other processes. They are this test binary again, told by an environment variable what to play.
const roleVariable = "LOCKER_BROKER_ROLE"

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
	case "lease": // holds a file lease on args[0]. fcntl(2), F_SETLEASE
		f, err := os.OpenFile(args[0], os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
			return err
		}
	case "flock": // locks args[0] without the broker
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		defer f.Close() // so that it is not collected, and the lock with it
	case "reader": // has args[0] open and locks nothing
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
	case "stamps": // opens args[0] for each line, and closes it for the next one, which is answered with the time before
		fmt.Println("ready")
		return stamps(args[0])
	case "heir": // keeps what it inherited open
	case "holder": // locks args[1] by the socket args[0], and has a child that keeps the socket open
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: args[0], Net: "unix"})
		if err != nil {
			return err
		}
		frames, _ := wire.Append(nil, 1, &wire.Hello{Min: 1, Max: 1})
		frames, err = wire.Append(frames, 2, attached(args[1]))
		if err != nil {
			return err
		}
		if _, err := conn.Write(frames); err != nil {
			return err
		}
		for _, want := range []wire.Type{wire.TypeWelcome, wire.TypeGranted} {
			body, err := wire.ReadFrame(conn, nil)
			if err != nil {
				return err
			}
			if _, m, err := wire.Parse(body); err != nil || m.Type() != want {
				return fmt.Errorf("got %+v %v, want %v", m, err, want)
			}
		}
		socket, err := conn.File()
		if err != nil {
			return err
		}
		heir := exec.Command("/proc/self/exe")
		heir.Env = append(os.Environ(), roleVariable+"=heir")
		heir.ExtraFiles = []*os.File{socket}
		heir.Stdin = os.Stdin // so it ends with the test
		if err := heir.Start(); err != nil {
			return err
		}
	case "keen": // locks args[1] by the socket args[0], in version 2, and stays when lockerd goes
		if _, err := converse(args[0], 2, attached(args[1]), wire.TypeGranted); err != nil {
			return err
		}
	case "usurper": // wants to go on as session args[1] of the socket args[0], and must not
		session, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil {
			return err
		}
		m, err := converse(args[0], 2, &wire.Resume{Session: session}, wire.TypeError)
		if err != nil {
			return err
		}
		if e := m.(*wire.Error); e.Code != wire.CodeLost {
			return fmt.Errorf("got %+v", e)
		}
	case "keeper": // keeps at the socket args[0], and has room for args[1] entries
		room, err := strconv.ParseUint(args[1], 10, 32)
		if err != nil {
			return err
		}
		limit := 64 + 2*room // the reserve that package keeper tells of, and two descriptors each
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
		l, err := keeper.Listen(args[0])
		if err != nil {
			return err
		}
		go new(keeper.Server).Serve(context.Background(), l)
	case "guard": // guards at the socket args[0]
		if err := playGuard(args[0]); err != nil {
			return err
		}
	case "server":
		return playServer()
	default:
		return fmt.Errorf("unknown role %q", role)
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// converse says hello and one thing more, and gives the answer. The connection stays open.
func converse(socket string, version uint8, m wire.Message, want wire.Type) (wire.Message, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	runtime.SetFinalizer(conn, nil)
	raw, err := conn.File() // a copy that nobody closes
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(raw.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, err
	}
	frames, err := wire.Append(nil, 1, &wire.Hello{Min: 1, Max: version})
	if err == nil {
		frames, err = wire.Append(frames, 2, m)
	}
	if err == nil {
		_, err = conn.Write(frames)
	}
	if err != nil {
		return nil, err
	}
	for _, want := range []wire.Type{wire.TypeWelcome, want} {
		body, err := wire.ReadFrame(conn, nil)
		if err != nil {
			return nil, err
		}
		_, answer, err := wire.Parse(body)
		if err != nil || answer.Type() != want {
			return nil, fmt.Errorf("got %+v %v, want %v", answer, err, want)
		}
		m = answer
	}
	return m, nil
}

func uintText(n uint64) string { return strconv.FormatUint(n, 10) }

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
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(c.end)
	if line, err := c.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: %q %v", role, line, err)
	}
	return c
}

// end lets the child end, and waits for it.
func (c *child) end() {
	if c.in != nil {
		c.in.Close()
		c.cmd.Wait()
		c.in = nil
	}
}

// needRoot skips a test that only root can run, unless all tests must run.
func needRoot(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		t.Fatalf("needs root: %s", why)
	}
	t.Skipf("needs root: %s", why)
}

// Users that own nothing here and have no name.
const (
	alice = 65531
	bob   = 65532
)

// dialMuteAs connects as another user: the kernel notes the effective ids of the thread that calls connect(2). unix(7).
// The process stays the test's.
func (r *rig) dialMuteAs(uid uint32, groups ...uint32) *peer {
	r.t.Helper()
	needRoot(r.t, "connections of other users")
	for _, path := range []string{filepath.Dir(r.dir), r.dir, r.socket} {
		if err := os.Chmod(path, 0o777); err != nil {
			r.t.Fatal(err)
		}
	}
	var conn *net.UnixConn
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with this goroutine, and its ids with it
		const same = ^uintptr(0)
		list := append(groups[:len(groups):len(groups)], 0)
		// The bare system calls: the library's are for all threads.
		_, _, e1 := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&list[0])), 0)
		_, _, e2 := unix.RawSyscall(unix.SYS_SETRESGID, same, uintptr(uid), same)
		_, _, e3 := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same)
		if e1|e2|e3 != 0 {
			err = e1 | e2 | e3
			return
		}
		conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: r.socket, Net: "unix"})
	}()
	<-done
	if err != nil {
		r.t.Fatalf("connect as %d: %v", uid, err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &peer{t: r.t, conn: conn}
}

func (r *rig) dialAs(uid uint32, groups ...uint32) *peer {
	r.t.Helper()
	p := r.dialMuteAs(uid, groups...)
	id := p.send(&wire.Hello{Min: 1, Max: 1})
	switch m := p.answer(id).(type) {
	case *wire.Welcome:
		p.session = m.Session
	default:
		r.t.Fatalf("uid %d: no Welcome but %+v", uid, m)
	}
	return p
}
