package broker

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

// withHardlinks is a policy under which files with several names may be locked.
func withHardlinks(r *rig) {
	r.policy = rules(r.files, `
allow = ["FILES"]
[[rule]]
name = "all"
users = [UID]
paths = ["FILES"]
hardlinks = true
can = ["lock", "lock-shared", "list", "break"]
`)
}

// noOpens takes all slots of this process's uid to open files in; the function that it gives lets go of them.
func (r *rig) noOpens() (again func()) {
	r.b.mu.Lock()
	a := r.b.accounts[uint32(os.Geteuid())]
	r.b.mu.Unlock()
	a.opens.set(0)
	return func() { a.opens.set(r.b.limits().Opens) }
}

func (r *rig) replace(path, by string) {
	r.t.Helper()
	if err := os.Rename(by, path); err != nil {
		r.t.Fatal(err)
	}
}

// clock is a boot clock that a test can put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) drive(r *rig) {
	r.alter = func(_ *audit.Config, config *Config) {
		config.Boot = func() time.Duration { return bootTime() + time.Duration(c.ahead.Load()) }
	}
}

func (c *clock) forward(r *rig, d time.Duration) {
	c.ahead.Add(int64(d))
	r.b.poke()
}

// requestOf gives the broker's side of p's request id; nil when it has its last answer.
func (r *rig) requestOf(p *peer, id uint32, look func(q *request)) bool {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	if s := r.b.sessions[p.session]; s != nil && s.requests[id] != nil {
		look(s.requests[id])
		return true
	}
	return false
}

// A claim that follows a replaced file goes from the kernel's door back into a queue. Whatever ended it on the way must
// end it there.
func TestAClaimThatIsEndedWhileItFollowsAReplacedFileEndsAtOnce(t *testing.T) {
	for name, want := range map[string]wire.Code{
		"cancel": wire.CodeCanceled, "time": wire.CodeTimeout, "close": 0,
		"cancel outside": wire.CodeCanceled, "time outside": wire.CodeTimeout, "close outside": 0,
	} {
		t.Run(name, func(t *testing.T) {
			how, outside := strings.CutSuffix(name, " outside") // who holds the new file
			var time clock
			r := newRig(t, time.drive)
			path, next := r.file("a"), r.file("next")
			holder, p := r.dial(), r.dial()
			if outside {
				outsideLock(t, next)
			} else {
				holder.granted(attached(next))
			}
			f := outsideLock(t, path)
			id := p.send(timed(attached(path), 3600e9))
			p.queued(id)
			opens := r.noOpens()
			r.replace(path, next)
			f.Close()
			eventually(t, "the claim has the old file and looks for the new one", func() (gone bool) {
				r.requestOf(p, id, func(q *request) { gone = q.phase == phaseClaiming && !q.isOutside })
				return gone
			})
			switch how {
			case "cancel":
				p.answer(p.send(&wire.Cancel{Target: id}))
			case "close":
				p.conn.Close()
			case "time":
				time.forward(r, 3600e9)
			}
			if how != "cancel" {
				eventually(t, "word is left for the worker", func() (left bool) {
					return !r.requestOf(p, id, func(q *request) { left = q.ended != 0 }) || left
				})
			}
			opens()
			if how != "close" {
				if e := asError(t, p.answer(id)); e.Code != want {
					t.Errorf("%+v", e)
				}
			}
			eventually(t, "nothing but the holder's file is open", func() bool { return outside && r.use().holds == 0 || r.use().holds == 1 })
			r.checkReplay()
		})
	}
}

func TestAFileThatIsGoneIsNotFoundAfterTheWaitAndStaleWhileHeld(t *testing.T) {
	for _, how := range []string{"deleted", "renamed", "replaced", "turned into a symlink"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t, nil)
			base := r.atRest()
			path := r.file("a")
			p, q := r.dial(), r.dial()
			g := p.granted(detached(path))
			id := q.send(attached(path))
			q.queued(id)
			must(t, os.Rename(path, r.files+"/moved"))
			want := wire.CodeNotFound
			switch how {
			case "deleted":
				must(t, os.Remove(r.files+"/moved"))
			case "replaced":
				r.file("a")
				want = 0
			case "turned into a symlink":
				must(t, os.Symlink("moved", path))
				want = wire.CodeUnsupported
			}
			rows := p.rowsOf(p.send(&wire.List{}))
			if len(rows) != 2 || !rows[0].Stale || rows[0].ID != g[0].ID || rows[1].Kind != wire.RowWaiter {
				t.Errorf("%+v", rows)
			}
			if rel := p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}})).(*wire.Released); rel.IDs[0] != g[0].ID {
				t.Errorf("%+v", rel)
			}
			switch m := q.answer(id).(type) {
			case *wire.Error:
				if m.Code != want {
					t.Errorf("%+v", m)
				}
			case *wire.Granted:
				if want != 0 || isFree(t, path) {
					t.Errorf("%+v", m)
				}
			}
			r.checkReplay()
			p.conn.Close()
			q.conn.Close()
			r.settles(base)
		})
	}
}

func TestListsOfClaimsAreSoundWhileTheirFilesAreReplaced(t *testing.T) {
	r := newRig(t, withHardlinks)
	a, b := r.file("a"), r.file("b")
	lister, p := r.dial(), r.dial()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	wg.Go(func() {
		for running() {
			os.Remove(b)
			os.Link(a, b)
			os.Remove(b)
			os.WriteFile(b, nil, 0o600)
		}
	})
	wg.Go(func() {
		for running() {
			lister.rowsOf(lister.send(&wire.List{}))
		}
	})
	for range 2000 {
		switch m := p.answer(p.send(attached(b, a))).(type) {
		case *wire.Granted:
			p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{a, b}}))
		case *wire.Error:
			if m.Code != wire.CodeNotFound {
				t.Errorf("%+v", m)
			}
		}
		p.kept = nil
	}
	close(stop)
	wg.Wait()
}
