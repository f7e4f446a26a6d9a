package broker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// world is several clients, outsiders and changes of files, driven by one seed, over one broker.
type world struct {
	r       *rig
	rand    *rand.Rand
	clock   still
	files   []string
	actors  []*actor
	outside map[string]*os.File
	readers sync.WaitGroup
}

// actor is one client; its reader holds every Lock to exactly one last answer.
type actor struct {
	w *world
	p *peer

	mu     sync.Mutex // guards all below
	locks  map[uint32]*wire.Lock
	tokens map[uint64]bool // granted for the first time
	wrong  string
	heard  uint32 // the last Status that was answered
}

func (w *world) join() *actor {
	a := &actor{w: w, locks: map[uint32]*wire.Lock{}, tokens: map[uint64]bool{}}
	if uid := w.rand.IntN(3); os.Geteuid() == 0 && uid > 0 {
		a.p = w.r.dialAs(alice + uint32(uid))
	} else {
		a.p = w.r.dial()
	}
	w.readers.Go(a.read)
	return a
}

func (a *actor) read() {
	for {
		id, m, err := a.p.read()
		if err != nil {
			return
		}
		a.mu.Lock()
		switch m := m.(type) {
		case *wire.Granted:
			l := a.locks[id]
			if l == nil || len(l.Paths) != len(m.Grants) {
				a.wrong = fmt.Sprintf("request %d was not waiting for %+v", id, m)
			}
			for _, g := range m.Grants {
				if g.Rests == 0 || g.ID == 0 {
					a.wrong = fmt.Sprintf("request %d was granted %+v", id, m)
				}
			}
			delete(a.locks, id)
		case *wire.Error:
			delete(a.locks, id)
			if m.Code == wire.CodeInternal {
				a.wrong = fmt.Sprintf("request %d: %+v", id, m)
			}
		case *wire.StatusReply:
			a.heard = id
		}
		a.mu.Unlock()
	}
}

// say sends without waiting for the answer.
func (a *actor) say(m wire.Message) {
	a.mu.Lock()
	if l, ok := m.(*wire.Lock); ok {
		a.locks[a.p.next+1] = l
	}
	a.mu.Unlock()
	a.p.send(m)
}

func pick[T any](w *world, of []T) T { return of[w.rand.IntN(len(of))] }

func (w *world) somePaths() []string {
	var paths []string
	for range 1 + w.rand.IntN(3) {
		paths = append(paths, pick(w, w.files))
	}
	return paths
}

// someID is of a hold that there is, or was.
func (w *world) someID() uint64 {
	w.r.b.mu.Lock()
	defer w.r.b.mu.Unlock()
	if holds := w.r.b.table.allHolds(); len(holds) > 0 {
		return pick(w, holds).id
	}
	return 1
}

func (w *world) someLock() *wire.Lock {
	m := attached(w.somePaths()...)
	m.Wait = pick(w, []wire.Wait{wire.Block, wire.Block, wire.Block, wire.NonBlock, wire.Timed})
	if m.Wait == wire.Timed {
		m.Timeout = time.Duration(w.rand.IntN(100)) * time.Second
	}
	m.Mode = pick(w, []wire.Mode{wire.Exclusive, wire.Exclusive, wire.Shared})
	if w.rand.IntN(2) == 0 {
		m.Life, m.Tag = wire.Detached, pick(w, []string{"", "x", "y"})
		m.TTL = time.Duration(w.rand.IntN(3)) * 50 * time.Second
	} else {
		m.Grace = time.Duration(w.rand.IntN(2)) * 20 * time.Second
	}
	return m
}

// step does one thing of all that can happen.
func (w *world) step() string {
	r, i := w.r, w.rand.IntN(len(w.actors))
	a := w.actors[i]
	switch n := w.rand.IntN(100); {
	case n < 45:
		a.say(w.someLock())
		return "lock"
	case n < 55:
		a.say(&wire.Unlock{By: wire.ByPath, Paths: w.somePaths(), AnyTag: true})
	case n < 60:
		a.say(&wire.Unlock{By: wire.ByID, ID: w.someID()})
	case n < 62:
		a.say(&wire.Unlock{By: wire.ByAll, Tag: pick(w, []string{"", "x"})})
	case n < 68:
		a.say(&wire.Cancel{Target: 1 + uint32(w.rand.IntN(int(a.p.next)+1))})
	case n < 71:
		a.say(&wire.Break{By: wire.ByID, ID: w.someID(), Reason: "a test"})
	case n < 73:
		a.say(&wire.Break{By: wire.ByPath, Path: pick(w, w.files), Reason: "a test"})
	case n < 76:
		a.say(&wire.List{All: true})
	case n < 82:
		a.p.conn.Close()
		w.actors[i] = w.join()
		return "leave"
	case n < 88:
		w.clock.forward(r, time.Duration(w.rand.IntN(30))*time.Second)
		return "time"
	case n < 94:
		w.outsider(pick(w, w.files))
		return "outside"
	case n < 98:
		w.change(pick(w, w.files))
		return "change"
	default:
		if _, err := r.b.Reload(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
	return "say"
}

// outsider takes or lets go of a lock that the broker knows nothing of.
func (w *world) outsider(path string) {
	if f := w.outside[path]; f != nil {
		f.Close()
		delete(w.outside, path)
		return
	}
	f, err := os.Open(locked(path))
	if err != nil {
		return
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return
	}
	w.outside[path] = f
}

// locked gives the file that a lock on path is on.
func locked(path string) string {
	if strings.HasSuffix(path, ".sparsebundle") {
		return path + "/token"
	}
	return path
}

// change replaces a file by another, or takes it away, or puts it back.
func (w *world) change(path string) {
	path = locked(path)
	switch w.rand.IntN(3) {
	case 0:
		os.Remove(path)
	case 1:
		os.WriteFile(path+".new", nil, 0o600)
		os.Rename(path+".new", path)
	case 2:
		os.WriteFile(path, nil, 0o600)
	}
}
