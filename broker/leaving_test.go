package broker

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

// A client may go at any byte of what it says, while it waits, as it is granted, and after.
func TestAClientMayLeaveAtAnyPointOfAConversation(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	a, b := r.file("a"), r.file("b")
	var stream []byte
	for i, m := range []wire.Message{
		&wire.Hello{Min: 1, Max: 1}, attached(b), attached(a), reader(attached(b, a)), &wire.Where{Target: 3}, &wire.Cancel{Target: 3},
		&wire.List{All: true}, &wire.Watch{}, detached(b), &wire.Unlock{By: wire.ByAll}, timed(attached(a), time.Hour), attached(a, b),
	} {
		stream = append(stream, encoded(t, uint32(i+1), m)...)
	}
	holder := r.dial()
	for n := 0; n <= len(stream); n++ {
		g := holder.granted(attached(a))
		p := r.dialMute()
		p.write(stream[:n])
		switch n % 3 {
		case 0: // gone before anything happens
			p.conn.Close()
			holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		case 1: // gone as it is granted
			var wg sync.WaitGroup
			wg.Go(func() { p.conn.Close() })
			holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
			wg.Wait()
		case 2: // gone with answers that nobody has read
			holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
			runtime.Gosched()
			p.conn.Close()
		}
		holder.kept = nil
	}
	holder.answer(holder.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
	holder.undisturbed()
	holder.conn.Close()
	r.settles(base)
	r.checkReplay()
	if !isFree(t, a) || !isFree(t, b) {
		t.Error("locked by somebody who is gone")
	}
}

// finals counts the last answers to request id among what p has been sent so far.
func (p *peer) finals(id uint32) (n int) {
	p.undisturbedBut(id)
	for _, k := range p.kept {
		if _, queued := k.m.(*wire.Queued); k.id == id && !queued {
			n++
		}
	}
	return n
}

// undisturbedBut reads all that p has been sent, which may only be about request id.
func (p *peer) undisturbedBut(id uint32) {
	p.t.Helper()
	p.answer(p.send(&wire.Status{}))
	for _, k := range p.kept {
		if k.id != id {
			p.t.Fatalf("sent %d %+v", k.id, k.m)
		}
	}
}

func TestACancelThatRacesWithTheGrantLeavesExactlyOneAnswer(t *testing.T) {
	for _, who := range []string{"inside", "outside", "the same owner"} {
		t.Run(who, func(t *testing.T) {
			r := newRig(t, nil)
			base := r.atRest()
			path := r.file("a")
			holder, p := r.dial(), r.dial()
			counts := map[wire.Type]int{}
			for i := range 400 {
				var free func()
				m := attached(path)
				switch who {
				case "inside":
					g := holder.granted(attached(path))
					free = func() { holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})) }
				case "outside":
					f := outsideLock(t, path)
					free = func() { f.Close() }
				case "the same owner": // its other claim is granted, so this one is satisfied
					m = detached(path)
					f := outsideLock(t, path)
					other := holder.send(m)
					holder.queued(other)
					free = func() { f.Close(); holder.answer(other) }
				}
				id := p.send(m)
				p.queued(id)
				var wg sync.WaitGroup
				wg.Go(free)
				for range rand.IntN(200) {
					runtime.Gosched()
				}
				if done := p.answer(p.send(&wire.Cancel{Target: id})); done.Type() != wire.TypeDone {
					t.Fatalf("%+v", done)
				}
				wg.Wait()
				last := p.answer(id)
				counts[last.Type()]++
				if e, ok := last.(*wire.Error); ok && e.Code != wire.CodeCanceled {
					t.Fatalf("%+v", e)
				}
				if n := p.finals(id); n != 0 {
					t.Fatalf("round %d: %d answers more, after %+v", i, n, last)
				}
				p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}}))
				p.kept, holder.kept = nil, nil
				if !isFree(t, path) {
					t.Fatalf("round %d: not free after %+v", i, last)
				}
			}
			t.Logf("%v", counts)
			r.checkReplay()
			p.conn.Close()
			holder.conn.Close()
			r.settles(base)
		})
	}
}

func TestADisconnectThatRacesWithTheGrantLeavesNothing(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	a, b := r.file("a"), r.file("b")
	for i := range 200 {
		f := outsideLock(t, b)
		p, q := r.dial(), r.dial()
		id := p.send(attached(a, b))
		p.queued(id)
		next := q.send(attached(b))
		q.queued(next)
		var wg sync.WaitGroup
		wg.Go(func() { f.Close() })
		for range rand.IntN(300) {
			runtime.Gosched()
		}
		p.conn.Close()
		wg.Wait()
		grants(t, q.answer(next))
		q.conn.Close()
		eventually(t, "both are free", func() bool { return isFree(t, a) && isFree(t, b) })
		if i%20 == 0 {
			r.settles(base)
			r.checkReplay()
		}
	}
}

func TestAClientIsDeadWhenItsProcessIsThoughAChildKeepsTheSocketOpen(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	base := r.atRest()
	holder := startChild(t, "holder", r.socket, path)
	p := r.dial()
	id := p.send(attached(path))
	if q := p.queued(id); len(q.Blockers) != 1 || q.Blockers[0].PID != int32(holder.cmd.Process.Pid) {
		t.Errorf("%+v", q)
	}
	must(t, holder.cmd.Process.Kill())
	grants(t, p.answer(id))
	deaths := r.records(audit.EventDeath)
	if len(deaths) != 1 || deaths[0].PID != int32(holder.cmd.Process.Pid) || deaths[0].Path != path {
		t.Errorf("%+v", deaths)
	}
	r.checkReplay()
	holder.end()
	p.conn.Close()
	r.settles(base)
}
