package broker

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

// inAPoorProcess runs the test again in a process that may have n descriptors, and reports whether this is that process.
func inAPoorProcess(t *testing.T, n uint64) bool {
	t.Helper()
	const variable = "LOCKER_BROKER_DESCRIPTORS"
	if os.Getenv(variable) == t.Name() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), variable+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func TestNobodyTakesTheLastDescriptors(t *testing.T) {
	if !inAPoorProcess(t, 400) {
		return
	}
	r := newRig(t, limited("holds = 1000"))
	p := r.dialUser()
	root := r.dial() // or the same user
	var refused *wire.Error
	held := 0
	for ; refused == nil; held++ {
		switch m := p.answer(p.send(detached(r.file(fmt.Sprint(held))))).(type) {
		case *wire.Error:
			refused = m
		}
	}
	if refused.Code != wire.CodeUnavailable || held < 300 {
		t.Errorf("after %d locks %+v", held, refused)
	}
	set := make([]string, 64)
	for i := range set {
		set[i] = r.file(fmt.Sprint("set", i))
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{r.files + "/0"}}))
	if e := p.refused(attached(set...)); e.Code != wire.CodeUnavailable {
		t.Errorf("%+v", e)
	}
	p.granted(attached(r.file("0"))) // one is free again
	r.dialMuteUser().turnedAway("lockerd is short of file descriptors")
	root.undisturbed()
	if os.Geteuid() == 0 { // its reserve
		another := r.dial()
		another.granted(attached(r.file("root's")))
		another.answer(another.send(&wire.Break{By: wire.ByPath, Path: r.files + "/1", Reason: "room"}))
		if !isFree(t, r.files+"/1") {
			t.Error("root cannot break")
		}
	}
	r.checkReplay()
	if _, err := r.b.Reload(t.Context()); err != nil {
		t.Errorf("reload: %v", err)
	}
}

// countedLines counts what is logged.
type countedLines struct {
	mu sync.Mutex
	n  int
}

func (c *countedLines) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += bytes.Count(p, []byte("\n"))
	return len(p), nil
}

func (c *countedLines) lines() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func TestWithoutADescriptorLeftAcceptingWaitsAndDoesNotSpin(t *testing.T) {
	if !inAPoorProcess(t, 128) {
		return
	}
	var log countedLines
	r := newRig(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log}) }
	})
	p := r.dial()
	path, later := r.file("a"), r.file("b")
	p.granted(attached(path))
	eventually(t, "it is watched", func() bool { return watchers(t, path) > 0 }) // for which it is opened once more, and closed again
	waiting, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var spent []int
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		spent = append(spent, fd)
	}
	if err := unix.Connect(waiting, &unix.SockaddrUnix{Name: r.socket}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "accept fails", func() bool { return log.lines() > 0 })
	<-time.After(300 * time.Millisecond) // an unthrottled loop fails some ten thousand times
	if n := log.lines(); n > 20 {
		t.Errorf("accept failed %d times in 0.3 s", n)
	}
	if e := p.refused(attached(later)); e.Code != wire.CodeUnavailable {
		t.Errorf("%+v", e)
	}
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}})).(*wire.Released); rel.IDs[0] == 0 {
		t.Error("a release needs no descriptor")
	}
	for _, fd := range spent {
		unix.Close(fd)
	}
	f := os.NewFile(uintptr(waiting), "")
	conn, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	// It is accepted now, and served, or sent away if that was before most of them were free again.
	q := &peer{t: t, conn: conn.(*net.UnixConn)}
	hello, err := wire.Append(nil, 1, &wire.Hello{Min: 1, Max: 1})
	must(t, err)
	q.conn.Write(hello)
	if _, m, err := q.read(); err != nil && !isReset(err) {
		t.Errorf("who waited to be accepted: %+v, %v", m, err)
	}
	q.conn.Close()
	r.dial().conn.Close()
	p.granted(attached(later))
}
