package fileservers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// served is a server that runs, with one share or volume, "tm".
type served struct {
	conf  string // the text of its configuration,
	place string // and where below /etc the machine's own server has it
	dial  func(*testing.T) *mac
}

// run starts a server, waits until it serves the port, and ends it with the test.
func run(t *testing.T, port int, log string, cmd *exec.Cmd) {
	t.Helper()
	// A session of its own, so that the processes it makes for clients are ended with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	t.Cleanup(func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(log)
			t.Logf("%v: %s\n%s", cmd.Args, said.String(), log)
		}
	})
	for end := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v does not serve: %v\n%s", cmd.Args, err, said.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const patience = 60 * time.Second

// freePort gives a port that nobody else is given until the test ends: we are bound to it. Since we do not listen there, a server can, as it
// asks for SO_REUSEADDR. socket(7)
func freePort(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)))
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := unix.Getsockname(fd)
	must(t, err)
	return at.(*unix.SockaddrInet4).Port
}

// mac is a client of a file server.
type mac struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// dial starts a client, a program in Python.
func dial(t *testing.T, args ...string) *mac {
	t.Helper()
	cmd := exec.Command(python, args...)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err = errors.Join(err, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	m := &mac{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s: %s", args[0], said.String())
		}
	})
	if line := m.line(); line != "ready" {
		t.Fatalf("%s says %q", args[0], line)
	}
	return m
}

func (m *mac) line() string {
	line, err := m.out.ReadString('\n')
	if err != nil {
		return "the client has ended: " + err.Error()
	}
	return strings.TrimSpace(line)
}

// asks has the client do something, and gives the server's word for it: OK, or what it refuses with: of SMB the NT
// status less STATUS_, of AFP the error's name; and what else it says.
func (m *mac) asks(format string, args ...any) (status, rest string) {
	fmt.Fprintf(m.in, format+"\n", args...)
	status, rest, _ = strings.Cut(m.line(), " ")
	return status, rest
}
