package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever dies, stops or hangs: nobody waits for ever. That a test ends is its law; how long it took is logged.

// guardChild is a guard in a process of its own. hang makes the part hang from then on.
func guardChild(t testing.TB, patience time.Duration, part string) (g *child, path string, hang func()) {
	t.Helper()
	dir := shortDir(t)
	path, file := filepath.Join(dir, "guard.sock"), filepath.Join(dir, "hang")
	g = startChild(t, "guard", path, patience.String(), part, file)
	return g, path, func() { must(t, os.WriteFile(file, nil, 0o600)) }
}

// waitBlocked waits until the child sleeps in open(2): for an answer of the guard's.
func (c *child) waitBlocked() {
	c.t.Helper()
	ctx := soonContext(c.t)
	for ctx.Err() == nil {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", c.cmd.Process.Pid))
		must(c.t, err)
		for _, task := range tasks {
			// "running" or the number of the system call in which it sleeps. proc(5)
			text, _ := os.ReadFile(task)
			if strings.HasPrefix(string(text), fmt.Sprintf("%d ", unix.SYS_OPENAT)) {
				return
			}
		}
		time.Sleep(time.Millisecond) // there is no event to wait for
	}
	c.t.Fatalf("%s does not wait in open(2)", c.exe)
}

// wantWaiting: the opener has got no answer yet.
func (c *child) wantWaiting() {
	c.t.Helper()
	select {
	case line := <-c.says:
		c.t.Fatalf("%s: %s; want it to wait", c.exe, line)
	default:
	}
}

// untilOpened tries until it is no longer refused.
func (c *child) untilOpened(path string) {
	c.t.Helper()
	ctx, begin := soonContext(c.t), time.Now()
	for {
		switch got := c.open("read", path); {
		case got == opened:
			c.t.Logf("opened after %v", time.Since(begin).Round(time.Millisecond))
			return
		case got != refused || ctx.Err() != nil:
			c.t.Fatalf("%s: %s", path, got)
		}
	}
}

func TestTheBrokersDeathLetsGo(t *testing.T) {
	needGuard(t)
	leaksNothing(t, func(t *testing.T) {
		r := newRig(t).serve()
		smbd := startAs(t, program(t, "fileserver"), "opener")
		b := newBundle(t, 1)
		for range 3 {
			broker := startChild(t, "broker", r.path, smbd.exe, b.root, filepath.Dir(b.band(0)))
			smbd.want(refused, "read", b.band(0))
			broker.kill()
			smbd.untilOpened(b.band(0))
		}
		// And the next one may come at once.
		c := r.denying(smbd.exe)
		wantMarks(t)
		b.guard(c, 1)
		smbd.want(refused, "read", b.band(0))
	})
}

func TestTheGuardsDeathLetsGo(t *testing.T) {
	needGuard(t)
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprintf("waits=%v", waits), func(t *testing.T) {
			g, path, hang := guardChild(t, time.Hour, "reader")
			smbd, other := startAs(t, program(t, "fileserver"), "opener"), startAs(t, program(t, "other"), "opener")
			b := newBundle(t, 1)
			c := dialGuard(t, path)
			must(t, c.Deny(soonContext(t), []string{smbd.exe}))
			b.guard(c, 1)
			smbd.want(refused, "read", b.band(0))
			if waits {
				hang()
				for _, who := range []*child{smbd, other} {
					who.ask("read", b.band(0))
					who.waitBlocked()
					who.wantWaiting()
				}
			}
			g.kill()
			<-c.Gone()
			if waits {
				for _, who := range []*child{smbd, other} {
					if got := who.line(); got != opened {
						t.Errorf("%s: %s", who.exe, got)
					}
				}
			}
			smbd.want(opened, "read", b.band(0))
			if err := c.Ping(soonContext(t)); !errors.Is(err, ErrGone) {
				t.Errorf("ping: %v", err)
			}
		})
	}
}

// Nothing in a stopped process can help those who wait for it: the kernel's timer does.
func TestAStoppedGuardIsKilledAndLetsGo(t *testing.T) {
	needGuard(t)
	g, path, _ := guardChild(t, 4*time.Second, "")
	smbd, other := startAs(t, program(t, "fileserver"), "opener"), startAs(t, program(t, "other"), "opener")
	b := newBundle(t, 1)
	c := dialGuard(t, path)
	must(t, c.Deny(soonContext(t), []string{smbd.exe}))
	b.guard(c, 1)
	smbd.want(refused, "read", b.band(0))
	g.stop()
	begin := time.Now()
	smbd.ask("read", b.band(0))
	other.ask("read", b.band(0))
	for _, who := range []*child{smbd, other} {
		if got := who.line(); got != opened {
			t.Errorf("%s: %s", who.exe, got)
		}
	}
	t.Logf("opened %v after the stop, of a patience of 4s", time.Since(begin).Round(time.Millisecond))
	g.wantKilled()
	<-c.Gone()
}

// Who hangs is the session, which is the one that watches the reader: openers are still answered, but nobody would notice if not.
func TestAGuardWhoseWatchHangsIsKilled(t *testing.T) {
	needGuard(t)
	g, path, hang := guardChild(t, 4*time.Second, "session")
	smbd := startAs(t, program(t, "fileserver"), "opener")
	b := newBundle(t, 1)
	c := dialGuard(t, path)
	must(t, c.Deny(soonContext(t), []string{smbd.exe}))
	b.guard(c, 1)
	smbd.want(refused, "read", b.band(0))
	hang()
	g.wantKilled()
	<-c.Gone()
	smbd.want(opened, "read", b.band(0))
}

// A guard that guards nothing is in nobody's way: it may be stopped for as long as one likes.
func TestAGuardThatGuardsNothingIsLeftAlone(t *testing.T) {
	needGuard(t)
	g, path, _ := guardChild(t, 50*time.Millisecond, "")
	b := newBundle(t, 1)
	c := dialGuard(t, path)
	must(t, c.Deny(soonContext(t), []string{"/usr/sbin/smbd"}))
	g.stop()
	time.Sleep(200 * time.Millisecond) // four times what would kill it; a machine that is slow lets it pass, never fail
	must(t, g.cmd.Process.Signal(unix.SIGCONT))
	must(t, c.Ping(soonContext(t)))
	_, err := os.ReadFile(b.token())
	must(t, err)
}

func TestAReaderThatHangsLetsEverybodyInAndIsReplaced(t *testing.T) {
	needGuard(t)
	leaksNothing(t, func(t *testing.T) {
		r := newRig(t)
		r.s.patience, r.s.interval = 3*time.Second, 20*time.Millisecond
		hang := make(chan bool, 1) // with a token: hang once
		release, behind := make(chan struct{}), make(chan struct{})
		r.s.judging = func() {
			select {
			case <-hang:
				<-release
			default:
			}
		}
		look := sync.OnceFunc(func() { close(behind) })
		defer look()
		r.s.watching = func() { <-behind } // nobody is let in before both wait
		r.serve()
		smbd, other := startAs(t, program(t, "fileserver"), "opener"), startAs(t, program(t, "other"), "opener")
		b := newBundle(t, 1)
		c := r.denying(smbd.exe)
		b.guard(c, 1)
		hang <- true
		other.ask("read", b.band(0))
		other.waitBlocked()
		smbd.ask("read", b.token()) // behind it
		smbd.waitBlocked()
		look()
		if got := other.line(); got != opened {
			t.Errorf("the opener whose event hung: %s", got)
		}
		if got := smbd.line(); got != opened {
			t.Errorf("the opener behind it: %s", got)
		}
		e, err := c.Next(soonContext(t))
		if err != nil || e.FailedOpen != "an opener was not answered in time" || !e.Guarded {
			t.Errorf("event %+v, %v", e, err)
		}
		smbd.want(refused, "read", b.token())
		other.want(opened, "read", b.token())
		wantMarks(t, b.root, filepath.Dir(b.band(0)))
		if w := r.warned(); !strings.Contains(w, "everybody was let in") || !strings.Contains(w, "left behind") {
			t.Errorf("warned of %q", w)
		}
		close(release) // what comes back late does no harm
		smbd.want(refused, "read", b.token())
		must(t, c.Close())
		r.stop()
		waitClosed(t)
	})
}

// waitClosed waits for the last descriptor of a reader that was left behind.
func waitClosed(t *testing.T) {
	ctx := soonContext(t)
	for ctx.Err() == nil {
		names, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		if !slices.ContainsFunc(names, func(n os.DirEntry) bool {
			to, _ := os.Readlink("/proc/self/fd/" + n.Name())
			return strings.Contains(to, ".sparsebundle/")
		}) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("a file of an event is still open")
}

// Then the broker should know that nothing is guarded.
func TestAGuardThatFailsAgainAndAgainGivesUp(t *testing.T) {
	needGuard(t)
	r := newRig(t)
	r.s.patience, r.s.interval = 500*time.Millisecond, 10*time.Millisecond
	release := make(chan struct{})
	defer close(release)
	r.s.judging = func() { <-release }
	r.serve()
	other := startAs(t, program(t, "other"), "opener")
	b := newBundle(t, 1)
	c := r.denying("/usr/sbin/smbd")
	b.guard(c, 1)
	for i := range maxFailures + 1 {
		other.want(opened, "read", b.band(0))
		e, err := c.Next(soonContext(t))
		if err != nil || e.FailedOpen == "" || e.Guarded != (i < maxFailures) {
			t.Errorf("failure %d: %+v, %v", i, e, err)
		}
	}
	<-c.Gone()
	if e, err := c.Next(soonContext(t)); !errors.Is(err, ErrGone) {
		t.Errorf("after the end: %+v, %v", e, err)
	}
	other.want(opened, "read", b.band(0))
}

// Without a descriptor for an event's file the kernel would refuse everybody.
func TestAGuardThatCannotReadEventsLetsEverybodyIn(t *testing.T) {
	needGuard(t)
	g, path, _ := guardChild(t, time.Minute, "")
	smbd, other := startAs(t, program(t, "fileserver"), "opener"), startAs(t, program(t, "other"), "opener")
	b := newBundle(t, 1)
	c := dialGuard(t, path)
	must(t, c.Deny(soonContext(t), []string{smbd.exe}))
	b.guard(c, 1)
	var old unix.Rlimit
	must(t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &old))
	must(t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}, nil))
	if got := other.open("read", b.band(0)); got != refused {
		t.Logf("the first opener: %s; on other kernels it was refused", got)
	}
	e, err := c.Next(soonContext(t))
	if err != nil || e.FailedOpen == "" || e.Guarded {
		t.Errorf("event %+v, %v", e, err)
	}
	<-c.Gone()
	other.want(opened, "read", b.band(0))
	smbd.want(opened, "read", b.band(0))
}
