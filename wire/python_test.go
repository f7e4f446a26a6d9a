package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// python gives a command that runs the example client. It skips when there is no python3.
func python(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("LOCKER_TEST_ALL") != "" {
			t.Fatal("needs python3: ", err)
		}
		t.Skip("needs python3: ", err)
	}
	// -B: no __pycache__ in the tree. -I: no PYTHON* variables, no user's site-packages.
	return exec.CommandContext(t.Context(), exe, append([]string{"-I", "-B", pythonClient}, args...)...)
}

func TestThePythonClientAgreesOnEveryVector(t *testing.T) {
	good, bad := 0, 0
	for _, v := range readVectors(t) {
		if v.err == "" {
			good++
		} else {
			bad++
		}
	}
	out, err := python(t, "--self-test", vectorFile).CombinedOutput()
	if want := fmt.Sprintf("ok: %d frames both ways, %d malformed refused\n", good, bad); err != nil || string(out) != want {
		t.Errorf("%s: error %v, got %q, want %q", pythonClient, err, out, want)
	}
}

// One frame changed in the file, and the self-test must notice.
func TestThePythonSelfTestBites(t *testing.T) {
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	for old, changed := range map[string]string{
		`"position": 3`: `"position": 4`, // a value
		"error: limit":  "error: value",  // the first of its kind
		"name: done":    "error: type\nname: done",
	} {
		file := filepath.Join(t.TempDir(), "vectors.txt")
		if !bytes.Contains(text, []byte(old)) {
			t.Fatalf("no %q in %s", old, vectorFile)
		}
		if err := os.WriteFile(file, bytes.Replace(text, []byte(old), []byte(changed), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := python(t, "--self-test", file).CombinedOutput(); exitCode(err) != 1 {
			t.Errorf("%q made %q: error %v, got %s", old, changed, err, out)
		}
	}
}

// script is a server that plays a part: what it answers depends on the first path alone.
func script(request uint32, m Message) []Message {
	holder := Blocker{Kind: Holder, Path: "/srv/held", UID: 1001, User: "alice", PID: 4312, Command: "restic \x1b[2J", Since: time.Unix(1e9, 0), Reason: "nightly"}
	granted := &Granted{Grants: []Grant{{ID: 41, Rests: RestOFD | RestFlock}}}
	switch m := m.(type) {
	case *Hello:
		return []Message{&Welcome{Version: 1, Server: "script", Session: 1, MaxFrame: MaxFrame, MaxPaths: MaxPaths, MaxPath: MaxPath, MaxReason: MaxReason, MaxTag: MaxTag}}
	case *Lock:
		switch m.Paths[0] {
		case "/srv/free":
			granted.Grants[0].Already = m.Life == Detached && m.Mode == Shared
			return []Message{granted}
		case "/srv/wait":
			return []Message{&Queued{Position: 2, Blockers: []Blocker{holder, {Kind: Waiter, Hidden: true}}}, granted}
		case "/srv/held":
			return []Message{&Error{Code: CodeBusy, Path: "/srv/held", Text: "in use", Blockers: []Blocker{holder, {Kind: Outside, Hidden: true}}}}
		case "/srv/late":
			if m.Wait != Timed || m.Timeout != 1500*time.Millisecond {
				return []Message{&Error{Code: CodeInternal, Text: fmt.Sprint("timeout ", m.Timeout)}}
			}
			return []Message{&Error{Code: CodeTimeout, Path: "/srv/late", Text: "still in use"}}
		case "/srv/broken":
			return []Message{granted, &Lost{ID: 41, Cause: Broken, Path: "/srv/broken", Grace: m.Grace}}
		case "/srv/cut":
			return nil
		}
		return []Message{&Error{Code: CodeDenied, Path: m.Paths[0], Text: "not allowed"}}
	case *Unlock:
		if m.By == ByID {
			return []Message{&Released{IDs: []uint64{m.ID}}}
		}
		return []Message{&Released{IDs: append(make([]uint64, len(m.Paths)-1), 41)}}
	case *List:
		row := Row{Kind: RowHolder, ID: 41, Path: "/srv/\xff\n", Mode: Shared, Life: Attached, UID: 1001, User: "alice", PID: 9}
		return []Message{&Rows{More: true, Rows: []Row{row}}, &Rows{Rows: []Row{{Kind: RowWaiter, Path: "/srv/b", Mode: Exclusive, Life: Attached, UID: 1002, Position: 1}}}}
	}
	return []Message{&Error{Code: CodeUnsupported}}
}

// serveScript plays script on a socket until the test ends, and gives its path.
func serveScript(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); work.Wait() })
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				if err := serveOne(conn); err != nil {
					t.Error(err)
				}
			})
		}
	})
	return path
}

func serveOne(conn net.Conn) error {
	var buf, out []byte
	for {
		body, err := ReadFrame(conn, buf)
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		buf = body
		request, m, err := Parse(body)
		if err != nil {
			return err
		}
		answers := script(request, m)
		if answers == nil {
			return nil
		}
		out = out[:0]
		for _, a := range answers {
			id := request
			if a.Type() == TypeLost {
				id = 0
			}
			if out, err = Append(out, id, a); err != nil {
				return err
			}
		}
		if _, err := conn.Write(out); err != nil && !strings.Contains(err.Error(), "broken pipe") {
			return err
		}
	}
}

func exitCode(err error) int {
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return e.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestThePythonClientSpeaksTheProtocol(t *testing.T) {
	socket := serveScript(t)
	for _, c := range []struct {
		args string
		exit int
		want string // in stdout and stderr together
	}{
		{"lock /srv/free", 0, "locked /srv/free token 41 ofd flock\n"},
		{"lock --shared //srv/./x/../free", 0, "already locked /srv/free token 41"},
		{"lock /srv/wait", 0, "waiting, position 2\nlocker.py:   /srv/held is held by alice (pid 4312) running restic \\x1b[2J since 2001-09-0"},
		{"lock -n /srv/held", 120, "busy: /srv/held: in use\nlocker.py:   in the way: alice"},
		{"lock /srv/held", 120, "in the way: a program outside locker\n"},
		{"lock /srv/other", 121, "denied: /srv/other: not allowed\n"},
		{"lock /srv/cut", 122, "cannot reach lockerd: lockerd has closed the connection\n"},
		{"lock --timeout 1.5 /srv/late", 124, "timeout: /srv/late: still in use\n"},
		{"lock --timeout -1 /srv/late", 123, "--timeout"},
		{"lock --timeout 1 -n /srv/late", 123, "not allowed with"},
		{"lock", 123, "PATH"},
		{"frob", 123, "frob"},
		{"", 123, "a command is needed"},
		{"lock --reason " + strings.Repeat("r", MaxReason+1) + " /srv/free", 125, "reason: limit"},
		{"unlock /srv/x /srv/free", 0, "/srv/x was not locked\nunlocked /srv/free token 41\n"},
		{"list", 0, "/srv/\\xff\\n holder shared token 41 alice (pid 9)\n/srv/b waiter exclusive position 1 uid 1002\n"},
		{"run /srv/free -- sh -c echo${IFS}$LOCKER_PATH:$LOCKER_TOKEN;exit${IFS}7", 7, "/srv/free:41\n"},
		{"run /srv/free -- sh -c kill${IFS}-9${IFS}$$", 137, "locked /srv/free token 41"},
		{"run /srv/free -- /nowhere/x", 127, "/nowhere/x: No such file"},
		{"run /srv/free -- /", 126, "Permission denied"},
		{"run -n /srv/held -- true", 120, "busy"},
		{"run /srv/broken -- sleep 60", 143, "the lock is lost: broken\n"},
		{"run /srv/free", 123, "run needs --"},
	} {
		cmd := python(t, append([]string{"--socket", socket}, strings.Fields(c.args)...)...)
		cmd.Env = append(os.Environ(), "TZ=UTC")
		out, err := cmd.CombinedOutput()
		if exitCode(err) != c.exit || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: exit %d, want %d; got\n%swant\n%s", c.args, exitCode(err), c.exit, out, c.want)
		}
	}
	out, err := python(t, "--socket", socket+"x", "list").CombinedOutput()
	if exitCode(err) != 122 || !strings.Contains(string(out), "cannot reach lockerd") {
		t.Errorf("no server: exit %d, got %s", exitCode(err), out)
	}
}
