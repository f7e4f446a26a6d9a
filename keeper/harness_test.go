package keeper

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// rig is a keeper in this process.
type rig struct {
	t    testing.TB
	path string
	l    *net.UnixListener
	s    *Server

	mu       sync.Mutex // guards the fields below
	warnings []string
	synced   []int32

	cancel context.CancelFunc
	served sync.WaitGroup
}

// newRig listens. Nobody is served before serve.
func newRig(t testing.TB) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keeper.sock")
	l, err := Listen(path)
	must(t, err)
	r := &rig{t: t, path: path, l: l}
	r.s = &Server{
		Warn: func(msg string, kv ...any) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.warnings = append(r.warnings, msg+" "+fmt.Sprint(kv...))
		},
		Synced: func(pid int32) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.synced = append(r.synced, pid)
		},
	}
	t.Cleanup(r.stop)
	return r
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

// warned gives what the keeper warned of, and forgets it.
func (r *rig) warned() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.warnings = nil }()
	return strings.Join(r.warnings, "\n")
}

func (r *rig) dial() *Conn { return dialKeeper(r.t, r.path) }

func dialKeeper(t testing.TB, path string) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), path)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// stranger connects without the manners of a Conn.
func (r *rig) stranger() *net.UnixConn {
	r.t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: r.path, Net: "unixpacket"})
	must(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// ends are those of a connection.
func ends(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		conn, err := net.FileConn(f)
		must(t, err)
		f.Close()
		conns[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { conn.Close() })
	}
	return conns[0], conns[1]
}

// pair is a Conn and the keeper's end of it, which nobody reads until the test does.
func pair(t testing.TB) (*Conn, *net.UnixConn) {
	t.Helper()
	broker, end := ends(t)
	c, err := newConn(broker, 0)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	// Less than the keeper has room for: these tests fill the queue.
	must(t, c.conn.SetWriteBuffer(200<<10))
	return c, end
}

// servePair lets a keeper read its end of a pair, to its end.
func servePair(t testing.TB, end *net.UnixConn) (s *Server, join func()) {
	s = &Server{kept: newEntries()}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		s.serve(ctx, end)
		s.close()
	})
	t.Cleanup(func() { cancel(); served.Wait() })
	return s, served.Wait
}

// file is a fresh file, open; at is its offset, by which one knows its description again.
func file(t testing.TB, at int64) int {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Seek(at, io.SeekStart)
	must(t, err)
	return int(f.Fd())
}

// offset is -1 for a descriptor that is none.
func offset(t testing.TB, fd int) int64 {
	if fd < 0 {
		return -1
	}
	at, err := unix.Seek(fd, 0, io.SeekCurrent)
	must(t, err)
	return at
}

// list lists and closes the descriptors; each entry is written as id, offsets of lock and holder, blob.
func list(t testing.TB, c *Conn) ([]string, Past) {
	t.Helper()
	entries, past, err := c.List(t.Context())
	must(t, err)
	var lines []string
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("%d %d %d %s", e.ID, offset(t, e.Lock), offset(t, e.Holder), e.Blob))
		closeBoth(e)
	}
	return lines, past
}

func wantList(t testing.TB, c *Conn, want ...string) Past {
	t.Helper()
	got, past := list(t, c)
	if !slices.Equal(got, want) {
		t.Errorf("listed %d entries\n %.2000s\nwant %d\n %.2000s", len(got), fmt.Sprintf("%q", got), len(want), fmt.Sprintf("%q", want))
	}
	return past
}

// openFDs is how many descriptors this process has.
func openFDs(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(names)
}

// settledFDs is openFDs when nobody closes any more what a test has left: the keeper and a connection close in goroutines of their own.
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
func leaksNothing(t *testing.T, name string, do func(t *testing.T)) {
	t.Helper()
	before := 0
	for _, run := range []string{"first", "second"} {
		t.Run(name+"/"+run, do)
		after := settledFDs(t)
		if run == "second" && after != before {
			t.Errorf("%s: %d descriptors were open before, and %d after", name, before, after)
		}
		before = after
	}
}

// upload is a Put that waits while the keeper is behind, as the broker waits.
func upload(ctx context.Context, c *Conn, e Entry) error {
	for {
		err := c.Put(e)
		if err == nil {
			return nil
		}
		if err := c.Await(ctx, err); err != nil {
			return err
		}
	}
}
