package guard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// must is for what a test sets up.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needGuard skips a test on machines where nothing can be guarded, unless all tests must run.
func needGuard(t testing.TB) {
	t.Helper()
	err := Available()
	if err == nil {
		return
	}
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// soon is for what takes a moment. It says that a test has failed, and never that it has passed.
const soon = 60 * time.Second

func soonContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(cancel)
	return ctx
}

// rig is a guard in this process, which it must not kill.
type rig struct {
	t    testing.TB
	path string
	l    *net.UnixListener
	s    *Server

	mu       sync.Mutex // guards warnings
	warnings []string

	cancel context.CancelFunc
	served sync.WaitGroup
}

// newRig listens. Nobody is served before serve. Events have an hour, since these tests are not about time.
func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(shortDir(t), "guard.sock")}
	r.l = listen(t, r.path)
	r.s = &Server{spared: true, patience: time.Hour, interval: 20 * time.Millisecond, Warn: func(msg string, kv ...any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.warnings = append(r.warnings, msg+" "+fmt.Sprint(kv...))
	}}
	t.Cleanup(r.stop)
	return r
}

// shortDir is a directory whose sockets have names that fit. unix(7)
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guard")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t testing.TB, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	must(t, err)
	return l
}

func (r *rig) serve() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.served.Go(func() {
		if err := r.s.Serve(ctx, r.l); err != nil {
			r.t.Errorf("serve: %v", err)
		}
	})
	return r
}

func (r *rig) stop() {
	if r.cancel != nil {
		r.cancel()
	}
	r.served.Wait()
	r.l.Close()
}

// warned gives what the guard warned of, and forgets it.
func (r *rig) warned() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.warnings = nil }()
	return strings.Join(r.warnings, "\n")
}

func (r *rig) dial() *Conn { return dialGuard(r.t, r.path) }

func dialGuard(t testing.TB, path string) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// denying is a connection that has named who is refused.
func (r *rig) denying(paths ...string) *Conn {
	r.t.Helper()
	c := r.dial()
	must(r.t, c.Deny(soonContext(r.t), paths))
	return c
}

// bundle is a directory as those that Macs make, with so many bands.
type bundle struct {
	t    testing.TB
	root string
}

func newBundle(t testing.TB, bands int) bundle {
	t.Helper()
	b := bundle{t, filepath.Join(t.TempDir(), "a.sparsebundle")}
	b.fill(bands)
	return b
}

func (b bundle) fill(bands int) {
	b.t.Helper()
	must(b.t, os.MkdirAll(filepath.Join(b.root, "bands"), 0o755))
	must(b.t, os.WriteFile(b.token(), nil, 0o644))
	for i := range bands {
		must(b.t, os.WriteFile(b.band(i), nil, 0o644))
	}
}

func (b bundle) token() string { return filepath.Join(b.root, "token") }
func (b bundle) band(i int) string {
	return filepath.Join(b.root, "bands", strconv.FormatInt(int64(i), 16))
}

// dirs are descriptors of the bundle's directories.
func (b bundle) dirs() []int {
	b.t.Helper()
	fds := []int{openDir(b.t, b.root), openDir(b.t, filepath.Join(b.root, "bands"))}
	return fds
}

func openDir(t testing.TB, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	return fd
}

// guard guards the bundle as a broker does, whose descriptors are its own.
func (b bundle) guard(c *Conn, id uint64) {
	b.t.Helper()
	fds := b.dirs()
	defer closeAll(fds)
	if err := c.Guard(soonContext(b.t), id, fds); err != nil {
		b.t.Fatalf("guard %d: %v", id, err)
	}
}

func lift(t testing.TB, c *Conn, id uint64) {
	t.Helper()
	must(t, c.Lift(soonContext(t), id))
}

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

// marks are what the kernel lists of the fanotify groups of a process, "dev:ino mask", in hex, sorted; ok: there is a group.
func marks(t testing.TB, pid int) (all []string, ok bool) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(dir)
	must(t, err)
	for _, name := range names {
		if to, err := os.Readlink(filepath.Join(dir, name.Name())); err != nil || to != "anon_inode:[fanotify]" {
			continue
		}
		ok = true
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, name.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		for line := range strings.Lines(string(info)) {
			var ino, dev, flags, mask uint64
			if n, _ := fmt.Sscanf(line, "fanotify ino:%x sdev:%x mflags:%x mask:%x", &ino, &dev, &flags, &mask); n == 4 {
				all = append(all, fmt.Sprintf("%x:%x %x", dev, ino, mask))
			} else if strings.HasPrefix(line, "fanotify") && !strings.HasPrefix(line, "fanotify flags:") {
				all = append(all, strings.TrimSpace(line))
			}
		}
	}
	slices.Sort(all)
	return all, ok
}

// wantMarks compares the marks of this process with directories.
func wantMarks(t testing.TB, dirs ...string) {
	t.Helper()
	var want []string
	for _, dir := range dirs {
		var st unix.Stat_t
		must(t, unix.Stat(dir, &st))
		// The kernel shows its own form of a device number. MKDEV in linux/kdev_t.h
		dev := uint64(unix.Major(st.Dev))<<20 | uint64(unix.Minor(st.Dev))
		want = append(want, fmt.Sprintf("%x:%x %x", dev, st.Ino, uint64(mask)))
	}
	slices.Sort(want)
	got, group := marks(t, os.Getpid())
	if !slices.Equal(got, want) || group != (len(want) > 0) {
		t.Errorf("marks, group %v:\n got %v\nwant %v", group, got, want)
	}
}

// openFDs is how many descriptors this process has.
func openFDs(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(names)
}

// leaksNothing runs do, once so that what Go opens once is open, and once more to count descriptors.
func leaksNothing(t *testing.T, do func(t *testing.T)) {
	t.Helper()
	before := 0
	for _, run := range []string{"first", "second"} {
		t.Run(run, do)
		after := openFDs(t)
		if run == "second" && after != before {
			t.Errorf("%d descriptors were open before, and %d after", before, after)
		}
		before = after
	}
}
