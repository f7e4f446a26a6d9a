package authz

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests of PeerOf need other processes, some of other users. They are this
// test binary again, told by an environment variable what to play.
const roleVariable = "LOCKER_AUTHZ_ROLE"

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

// play runs in the child. It says "ready" on stdout when the test may look, and
// ends when its stdin does.
func play(role string, args []string) error {
	ready := func() { fmt.Println("ready"); io.Copy(io.Discard, os.Stdin) }
	switch role {
	case "serve":
		return serveOne(args[0])
	case "idle": // holds a socket that it was given
		if _, err := unix.Write(3, []byte("x")); err != nil {
			return err
		}
		ready()
		return nil
	}
	if role == "euid" { // a set-uid program's ids: real 1000, effective 1001
		if err := syscall.Setregid(1000, 1001); err != nil {
			return err
		}
		if err := syscall.Setreuid(1000, 1001); err != nil {
			return err
		}
	}
	fd, err := connect(args[0])
	if err != nil {
		return err
	}
	switch role {
	case "connect", "euid":
		ready()
	case "vanish": // connect and end
	case "drop": // connect as root, then become somebody else
		if err := syscall.Setgroups([]int{444}); err != nil {
			return err
		}
		if err := syscall.Setgid(1000); err != nil {
			return err
		}
		if err := syscall.Setuid(1000); err != nil {
			return err
		}
		fmt.Println("now", os.Geteuid())
		ready()
	case "hand over": // leave the socket to a child of another user, and end
		child := exec.Command("/proc/self/exe")
		child.Env = []string{roleVariable + "=idle"}
		child.Stdin, child.Stdout = os.Stdin, os.Stdout
		child.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "socket")}
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		return child.Start()
	default:
		return fmt.Errorf("no role %q", role)
	}
	return nil
}

// serveOne accepts one connection and prints who it is from.
func serveOne(path string) error {
	l, err := listen(path)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	peer, err := PeerOf(fd)
	if err != nil {
		return err
	}
	fmt.Println("uid", peer.UID, "gid", peer.GID, "pid", peer.PID)
	return nil
}

func listen(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		err = unix.Listen(fd, 16)
	}
	if err == nil && !strings.HasPrefix(path, "@") {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func connect(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// stage is a listener, and a copy of this binary that every user can execute.
type stage struct {
	t        *testing.T
	dir      string
	exe      string
	path     string // of the socket
	listener int
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "authz")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	chmod(t, dir, 0o755)
	s := &stage{t: t, dir: dir, exe: filepath.Join(dir, "child"), path: filepath.Join(dir, "s")}
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(s.exe, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	chmod(t, s.exe, 0o755)
	if s.listener, err = listen(s.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.listener) })
	return s
}

// child is a running process of a stage.
type child struct {
	*exec.Cmd
	out   *bufio.Reader
	stdin io.WriteCloser
}

// start runs a role; attr may be nil.
func (s *stage) start(role string, attr *syscall.SysProcAttr, args ...string) *child {
	s.t.Helper()
	c, err := s.try(role, attr, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *stage) try(role string, attr *syscall.SysProcAttr, args ...string) (*child, error) {
	cmd := exec.Command(s.exe, append([]string{s.path}, args...)...)
	if len(args) > 0 {
		cmd.Args = append([]string{s.exe}, args...)
	}
	cmd.Env = []string{roleVariable + "=" + role}
	cmd.SysProcAttr = attr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd, bufio.NewReader(stdout), stdin}
	s.t.Cleanup(c.end)
	return c, nil
}

// end lets the child end and waits for it. It may be called twice.
func (c *child) end() {
	c.stdin.Close()
	io.Copy(io.Discard, c.out)
	c.Wait()
}

// expect reads lines up to the wanted one.
func (c *child) expect(t *testing.T, want string) {
	t.Helper()
	for {
		line, err := c.out.ReadString('\n')
		if strings.TrimSpace(line) == want {
			return
		}
		if err != nil || strings.HasPrefix(line, "error:") {
			t.Fatalf("child says %q (%v), want %q", line, err, want)
		}
	}
}

// accept takes the next connection.
func (s *stage) accept() int {
	s.t.Helper()
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// peer asks who a connection is from and closes the pidfd with the test.
func (s *stage) peer(fd int) Peer {
	s.t.Helper()
	p, err := PeerOf(fd)
	if err != nil {
		s.t.Fatal(err)
	}
	if p.PidFD >= 0 {
		s.t.Cleanup(func() { unix.Close(p.PidFD) })
	}
	return p
}

// as are the credentials of another user.
func as(uid, gid uint32, groups ...uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
}
