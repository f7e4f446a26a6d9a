package broker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"locker/wire"
)

// turns has clients lock and unlock one file for so many grants in all once start lets them, each asking for its next turn before it gives up the
// one it has, so that nobody's turn depends on how quickly he asks. It gives the grants of each client, and fails if two ever
// hold the file together.
func (r *rig) turns(clients []*peer, path string, rounds int, start func()) []int {
	r.t.Helper()
	var holder atomic.Int32
	var left atomic.Int64
	left.Store(int64(rounds))
	counts := make([]int, len(clients))
	lock := func(c, turn int) *wire.Lock {
		m := detached(path)
		m.Tag = fmt.Sprint(c, "/", turn%2)
		return m
	}
	first := make([]uint32, len(clients))
	for c, p := range clients { // all wait before the first turn begins
		first[c] = p.send(lock(c, 0))
		p.queued(first[c])
	}
	start()
	var wg sync.WaitGroup
	for c, p := range clients {
		wg.Go(func() {
			id := first[c]
			for turn := 0; ; turn++ {
				m := p.answer(id)
				if _, ok := m.(*wire.Granted); !ok {
					r.t.Errorf("client %d: %+v", c, m)
					return
				}
				if !holder.CompareAndSwap(0, int32(c+1)) {
					r.t.Errorf("client %d was granted what client %d holds", c, holder.Load()-1)
				}
				last := left.Add(-1) < 0
				if !last {
					counts[c]++
					id = p.send(lock(c, turn+1))
					p.queued(id)
				}
				if !holder.CompareAndSwap(int32(c+1), 0) {
					r.t.Errorf("somebody else was let in while client %d held it", c)
				}
				p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}, Tag: lock(c, turn).Tag})
				if last {
					return
				}
				p.kept = nil
			}
		})
	}
	wg.Wait()
	return counts
}

// contended gives clients of the uids and a file, and what makes the file free for them.
func contended(t *testing.T, uids ...uint32) (r *rig, clients []*peer, path string, start func()) {
	r = newRig(t, limited("connections = 64"))
	path = r.file("a")
	first := r.dial()
	g := first.granted(attached(path))
	for _, uid := range uids {
		if uid == user() && uid != alice {
			clients = append(clients, r.dial())
		} else {
			clients = append(clients, r.dialAs(uid))
		}
	}
	return r, clients, path, func() { first.answer(first.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})) }
}

func TestEightClientsGetEqualTurnsAndNeverTwoAtOnce(t *testing.T) {
	me := user()
	r, clients, path, start := contended(t, me, me, me, me, me, me, me, me)
	const each = 150
	for c, n := range r.turns(clients, path, 8*each, start) {
		if n != each {
			t.Errorf("client %d had %d turns of %d", c, n, each)
		}
	}
	r.checkReplay()
}

func TestAUserWithManyClientsGetsNoMoreTurnsThanOneWithOne(t *testing.T) {
	needRoot(t, "two users")
	r, clients, path, start := contended(t, alice, bob, bob, bob, bob, bob, bob, bob)
	const all = 800
	counts := r.turns(clients, path, all, start)
	if n := counts[0]; n < all/2-1 || n > all/2+1 {
		t.Errorf("alice had %d of %d turns, against seven of bob's: %v", n, all, counts)
	}
	for c, n := range counts[1:] {
		if n < all/14-1 || n > all/14+1 {
			t.Errorf("bob's client %d had %d turns: %v", c, n, counts)
		}
	}
	r.checkReplay()
}
