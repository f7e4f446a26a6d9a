package broker

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"locker/wire"
)

func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unwritten
}

// pileUp asks for answers and reads none, until at least n bytes wait for p to read. It overshoots by a few answers, and
// gives how many it has asked for.
func (r *rig) pileUp(p *peer, n int) (asked int) {
	r.t.Helper()
	o := r.outboxOf(p)
	raw, err := p.conn.SyscallConn()
	if err != nil {
		r.t.Fatal(err)
	}
	for ; o.waiting() < n; asked++ {
		p.write(encoded(r.t, 1<<20, &wire.Status{}))
		eventually(r.t, "it is read", func() (empty bool) {
			raw.Control(func(fd uintptr) {
				queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) // unix(7)
				empty = err == nil && queued == 0
			})
			return empty
		})
	}
	return asked
}

// says sends a frame so many times, unless the connection is closed before: its time can be over, where others keep us off the processors.
func (p *peer) says(times int, frame []byte) {
	for range times {
		if _, err := p.conn.Write(frame); err != nil {
			return
		}
	}
}

// isGone reports whether the broker has ended p's session.
func (r *rig) isGone(p *peer) bool {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.b.sessions[p.session] == nil
}

func TestAClientThatDoesNotReadIsClosedAndTheOthersAreServed(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	holder := r.bigList()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var greedy []*peer
	for i := range 12 {
		p := r.dial()
		greedy = append(greedy, p)
		if i%2 == 0 {
			p.says(40, encoded(t, 7, &wire.List{}))
		} else {
			p.says(40, encoded(t, 8, &wire.Status{}))
		}
	}
	path := r.file("a")
	var wg sync.WaitGroup
	closed := make(chan struct{})
	wg.Go(func() {
		defer close(closed) // also if one is not
		for i, p := range greedy {
			if i%2 == 0 { // the lists: each is more than a socket takes
				eventually(t, "a client that reads no list is closed", func() bool { return r.isGone(p) })
			}
		}
	})
	served := 0
	for done := false; !done; served++ {
		g := holder.granted(attached(path))
		holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		select {
		case <-closed:
			done = true
		default:
		}
		if served%64 == 0 {
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
				t.Fatalf("the heap has grown by %d MB", grown>>20)
			}
		}
	}
	wg.Wait()
	for _, p := range greedy {
		p.conn.Close()
	}
	holder.answer(holder.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
	holder.conn.Close()
	r.settles(base)
}

func TestAClientThatReadsNoAnswersIsClosedAtTheLimitOfItsOwn(t *testing.T) {
	r := newRig(t, readsLate)
	base := r.atRest()
	p := r.dial()
	r.pileUp(p, 1)
	p.says(1000, encoded(t, 9, &wire.Status{})) // 64 KiB are some hundred answers
	eventually(t, "it is closed", func() bool { return r.isGone(p) })
	p.conn.Close()
	r.settles(base)
}

func TestTheLimitOfUnsentAnswersIsOneUsersAlone(t *testing.T) {
	r := newRig(t, func(r *rig) { limited(`unsent = "64KiB"`)(r); readsLate(r) })
	p, q := r.dialUser(), r.dialUser()
	other := r.dial()
	r.pileUp(p, 50<<10)
	r.b.mu.Lock()
	a := r.b.accounts[user()]
	r.b.mu.Unlock()
	if n := a.unsent.Load(); n < 50<<10 || n > 64<<10 {
		t.Errorf("%d bytes are counted as unsent", n)
	}
	r.pileUp(q, 1)
	q.says(1000, encoded(t, 9, &wire.Status{}))
	eventually(t, "the second is closed", func() bool { return r.isGone(q) })
	if os.Geteuid() == 0 {
		r.pileUp(other, 50<<10) // root's own
	}
	p.conn.Close()
	q.conn.Close()
	eventually(t, "all is given back", func() bool { return a.unsent.Load() == 0 || os.Geteuid() != 0 })
}
