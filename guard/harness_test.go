package guard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// settledFDs is openFDs when nobody closes any more what a test has left: a reader that was left behind does so in its own time.
func settledFDs(t testing.TB) int {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	n, same := openFDs(t), 0
	for same < 20 {
		<-tick.C
		if now := openFDs(t); now == n {
			same++
		} else {
			n, same = now, 0
		}
	}
	return n
}

// leaksNothing runs do, once so that what Go opens once is open, and once more to count descriptors.
func leaksNothing(t *testing.T, do func(t *testing.T)) {
	t.Helper()
	before := 0
	for _, run := range []string{"first", "second"} {
		t.Run(run, do)
		after := settledFDs(t)
		if run == "second" && after != before {
			t.Errorf("%d descriptors were open before, and %d after", before, after)
		}
		before = after
	}
}
