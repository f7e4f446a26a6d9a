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
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// python is Debian's own, for which python3-impacket is.
const python = "/usr/bin/python3"

// need skips a test that needs root or these programs, unless all tests must run.
func need(t *testing.T, programs ...string) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = p
		}
	}
	if missing == "" {
		return
	}
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		t.Fatalf("LOCKER_TEST_ALL is set, and this test needs %s", missing)
	}
	t.Skipf("needs %s", missing)
}

// needSamba is need for smbd and its client.
func needSamba(t *testing.T, programs ...string) {
	t.Helper()
	need(t, append(programs, "smbd", python)...)
	if out, err := exec.Command(python, "-c", "import impacket").CombinedOutput(); err != nil {
		if os.Getenv("LOCKER_TEST_ALL") != "" {
			t.Fatalf("LOCKER_TEST_ALL is set, and this test needs python3-impacket: %s", out)
		}
		t.Skip("needs python3-impacket")
	}
}

// setting is one way to configure a share for Macs.
type setting struct{ name, lines string }

var settings = []setting{
	{"default", ""},
	{"fruit locking netatalk", "fruit:locking = netatalk\n"},
	{"time machine", "fruit:time machine = yes\n"},
	{"time machine, fruit locking netatalk", "fruit:time machine = yes\nfruit:locking = netatalk\n"},
}

// smbd is a running server of one share, "tm".
type smbd struct {
	conf string // its smb.conf
	port int
}

// startSmbd serves dir as nobody, until the test ends.
func startSmbd(t *testing.T, dir string, s setting) *smbd {
	t.Helper()
	own, err := os.MkdirTemp("", "smbd") // of a short name: its sockets' names have room for 107 bytes. unix(7)
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(own) })
	port := freePort(t)
	conf := fmt.Sprintf(`[global]
smb ports = %d
interfaces = 127.0.0.1
bind interfaces only = yes
logging = file
log file = %[2]s/log
server role = standalone server
map to guest = Bad User
guest account = nobody
disable spoolss = yes
load printers = no
disable netbios = yes
`, port, own)
	for _, name := range []string{"private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
		sub := filepath.Join(own, strings.ReplaceAll(name, " ", "-"))
		must(t, os.Mkdir(sub, 0o755))
		conf += name + " = " + sub + "\n"
	}
	conf += "[tm]\npath = " + dir + "\nguest ok = yes\nread only = no\nvfs objects = fruit streams_xattr\n" + s.lines
	server := &smbd{conf: filepath.Join(own, "smb.conf"), port: port}
	must(t, os.WriteFile(server.conf, []byte(conf), 0o644))
	cmd := exec.Command("smbd", "--foreground", "--no-process-group", "--configfile", server.conf)
	// A session of its own, so that the processes it makes for clients are ended with it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	t.Cleanup(func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(own, "log"))
			t.Logf("smbd: %s\n%s", said.String(), log)
		}
	})
	for end := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
			return server
		}
		if time.Now().After(end) {
			t.Fatalf("smbd does not serve: %v\n%s", err, said.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const patience = 60 * time.Second

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// mac is an SMB client.
type mac struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

func (s *smbd) dial(t *testing.T) *mac {
	t.Helper()
	cmd := exec.Command(python, "testdata/smb.py", fmt.Sprint(s.port), "tm")
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
			t.Logf("smb.py: %s", said.String())
		}
	})
	if line := m.line(); line != "ready" {
		t.Fatalf("smb.py says %q", line)
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

// asks has the client do something, and gives the server's word for it: OK, or the NT status less STATUS_; and what else it says.
func (m *mac) asks(format string, args ...any) (status, rest string) {
	fmt.Fprintf(m.in, format+"\n", args...)
	status, rest, _ = strings.Cut(m.line(), " ")
	return status, rest
}
