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
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/guard"
	"locker/wire"
)

// playGuard guards at a socket. It must not be killed for want of a processor, which a busy machine may let it wait for: it goes first.
func playGuard(path string) error {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return err
	}
	go new(guard.Server).Serve(context.Background(), l)
	return nil
}

// playServer opens what it is told to, as a file server does for its clients: "read PATH", "keep PATH", "drop".
func playServer() error {
	fmt.Println("ready")
	var kept []*os.File
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var how, path string
		fmt.Sscan(in.Text(), &how, &path)
		flags := os.O_RDONLY
		switch how {
		case "drop":
			for _, f := range kept {
				f.Close()
			}
			kept = nil
			fmt.Println("ok")
			continue
		case "write":
			flags = os.O_RDWR
		case "truncate":
			flags = os.O_RDWR | os.O_TRUNC
		case "create":
			flags = os.O_RDWR | os.O_CREATE
		}
		f, err := os.OpenFile(path, flags, 0o644)
		switch {
		case err != nil:
			fmt.Println("no")
			continue
		case how == "keep":
			kept = append(kept, f)
		default:
			f.Close()
		}
		fmt.Println("ok")
	}
	return nil
}

// fenced is a rig with a guard that refuses the program server.
type fenced struct {
	*rig
	server   string // a program
	socket   string
	programs []string // of the policy, as of the next reload
	guard    *child

	mu     sync.Mutex // guards what follows
	fail   error      // of every dial
	before func()     // the guard is told
}

func newFenced(t testing.TB, change func(*rig)) *fenced {
	t.Helper()
	if err := guard.Available(); err != nil {
		if os.Getenv("LOCKER_TEST_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "fence") // short: unix(7)
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fenced{server: program(t, "fileserver"), socket: filepath.Join(dir, "guard")}
	f.programs = []string{f.server}
	f.rig = newRig(t, func(r *rig) {
		f.rig = r
		if change != nil {
			change(r)
		}
		policy, alter := r.policy, r.alter
		r.policy = func() (*authz.Policy, error) {
			p, err := policy()
			if err == nil {
				p.Guard = slices.Clone(f.programs)
			}
			return p, err
		}
		r.alter = func(l *audit.Config, c *Config) {
			if alter != nil {
				alter(l, c)
			}
			c.Guard, c.beforeWard = f.dialGuard, f.beforeWard
		}
		f.raise()
	})
	f.awaitState("on")
	return f
}

// newKeptFenced is newFenced with a keeper.
func newKeptFenced(t testing.TB) (f *fenced, s *shelf) {
	t.Helper()
	f = newFenced(t, func(r *rig) {
		s = &shelf{r: r, boot: testBoot, path: filepath.Join(r.dir, "k", "s")}
		must(t, os.Mkdir(filepath.Dir(s.path), 0o700))
		s.start()
		t.Cleanup(func() { r.halt(); s.end() })
		r.alter = s.connect
	})
	return f, s
}

func (f *fenced) dialGuard(ctx context.Context) (*guard.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	return guard.Dial(ctx, f.socket)
}

// raise starts the guard.
func (f *fenced) raise() {
	f.t.Helper()
	os.Remove(f.socket)
	f.guard = startChild(f.t, "guard", f.socket)
}

// fell ends the guard as its death would.
func (f *fenced) fell() {
	f.guard.cmd.Process.Kill()
	f.guard.end()
}

func (f *fenced) state() string {
	state, _ := f.b.guardState()
	return state.String()
}

func (f *fenced) awaitState(want string) {
	f.t.Helper()
	eventually(f.t, "the guard is "+want, func() bool { return f.state() == want })
}

// program makes this test binary a program of that name in a directory of its own.
func program(t testing.TB, name string) string {
	t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	if os.Link(self, path) == nil {
		return path
	}
	text, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(path, text, 0o755))
	return path
}

// opens is a program that opens what it is told to.
type opens struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

func startOpens(t testing.TB, exe string) *opens {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVariable+"=server")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	o := &opens{t, in, bufio.NewReader(out)}
	if line, err := o.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q %v", line, err)
	}
	return o
}

// can says whether an open goes through.
func (o *opens) can(how, path string) bool {
	o.t.Helper()
	fmt.Fprintln(o.in, how, path)
	line, err := o.out.ReadString('\n')
	if err != nil {
		o.t.Fatal(err)
	}
	return line == "ok\n"
}

func (o *opens) may(how string, paths ...string) {
	o.t.Helper()
	for _, path := range paths {
		if !o.can(how, path) {
			o.t.Errorf("%s %s: refused", how, path)
		}
	}
}

func (o *opens) mayNot(how string, paths ...string) {
	o.t.Helper()
	for _, path := range paths {
		if o.can(how, path) {
			o.t.Errorf("%s %s: let through", how, path)
		}
	}
}

// guardRecords gives the records about the guard with that code.
func (r *rig) guardRecords(code string) (found []audit.Record) {
	r.t.Helper()
	for _, rec := range r.records(audit.EventGuard) {
		if rec.Code == code {
			found = append(found, rec)
		}
	}
	return found
}

// restsOfRow is what the list says that a hold rests on.
func (p *peer) restsOfRow(id uint64) wire.Rest {
	p.t.Helper()
	for _, row := range p.rowsOf(p.send(&wire.List{All: true})) {
		if row.ID == id {
			return row.Rests
		}
	}
	p.t.Fatalf("hold %d is not listed", id)
	return 0
}

// limitFiles lets the child have so many descriptors from now on.
func (c *child) limitFiles(n uint64) {
	c.t.Helper()
	must(c.t, unix.Prlimit(c.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}, nil))
}

// pauseWards has claims wait, with their files locked, before the guard is told: arrived says that one does, and goOn lets all go on.
func (f *fenced) pauseWards() (arrived <-chan struct{}, goOn func()) {
	at, on := make(chan struct{}, 64), make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = func() {
		at <- struct{}{}
		<-on
	}
	return at, func() { close(on) }
}

func (f *fenced) beforeWard() {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil {
		before()
	}
}
