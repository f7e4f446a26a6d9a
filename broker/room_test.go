package broker

import (
	"context"
	"slices"
	"testing"

	"locker/audit"
	"locker/wire"
)

// narrow has another keeper follow, one with room for n entries, and waits until a broker that runs has sent it what fits.
func (s *shelf) narrow(n uint64) {
	s.r.t.Helper()
	s.end()
	next := startChild(s.r.t, "keeper", s.path, uintText(n))
	if s.r.stop == nil {
		return
	}
	b := s.r.b
	eventually(s.r.t, "the next keeper is found", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.keeping.ready && int(b.keeping.conn.PID()) == next.cmd.Process.Pid
	})
}

// left is how many holds the keeper has no room for.
func (r *rig) left() int {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return len(r.b.keeping.left)
}

func (p *peer) unlock(ids ...uint64) {
	p.t.Helper()
	for _, id := range ids {
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: id}))
	}
}

// refusesGrants checks that nothing is granted, at once and without a trace.
func (r *rig) refusesGrants(p *peer, path string) {
	r.t.Helper()
	if e := p.refused(attached(path)); e.Code != wire.CodeUnavailable || !isFree(r.t, path) {
		r.t.Errorf("%+v", e)
	}
	r.checkReplay()
}

func TestAKeeperWithLessRoomHasWhatFitsAndNothingIsGrantedUntilItHasAll(t *testing.T) {
	r, s := withKeeper(t, nil)
	p, q := r.dial2(), r.dial2()
	var ids []uint64
	for _, name := range []string{"a", "b", "c"} {
		ids = append(ids, p.granted(attached(r.file(name)))[0].ID)
	}
	s.narrow(2)
	if n := r.left(); n != 1 {
		t.Errorf("%d are left over", n)
	}
	leftAtTheEnd := make(chan int, 1)
	go func() {
		r.b.AwaitKept(t.Context())
		leftAtTheEnd <- r.left()
	}()
	fresh := r.file("d")
	r.refusesGrants(q, fresh)
	p.unlock(ids[0])
	if n := r.left(); n != 0 {
		t.Errorf("there is room for two, and %d are left over", n)
	}
	if n := <-leftAtTheEnd; n != 0 {
		t.Errorf("handed over with %d left over", n)
	}
	r.refusesGrants(q, fresh)
	p.unlock(ids[1])
	ids = append(ids[2:], q.granted(attached(fresh))[0].ID)
	var codes []string
	for _, rec := range r.records(audit.EventKeeper) {
		codes = append(codes, rec.Code)
	}
	if want := []string{"synced", "gone", "full", "room"}; !slices.Equal(codes, want) {
		t.Errorf("recorded %q, want %q", codes, want)
	}
	s.crash()
	if has := s.inKeeper(nil); !slices.Equal(has, ids) {
		t.Errorf("the keeper has %v, want %v", has, ids)
	}
	s.back()
}

func TestALockThatTheKeeperHasNoRoomForIsNotTakenForOneThatWasLetGo(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	var ids []uint64
	for _, name := range []string{"a", "b", "c"} {
		ids = append(ids, p.granted(attached(r.file(name)))[0].ID)
	}
	s.crash()
	s.narrow(2)
	for range 2 { // the second broker finds two in the keeper
		s.back()
		for _, name := range []string{"a", "b", "c"} {
			if isFree(t, r.files+"/"+name) {
				t.Errorf("%s is free", name)
			}
		}
		if got := p.resumed(r); !slices.Equal(got, ids) {
			t.Errorf("resumed with %v, want %v", got, ids)
		}
		r.refusesGrants(r.dial2(), r.file("d"))
		s.crash()
	}
	conn := s.inKeeper(nil)
	if len(conn) != 2 {
		t.Errorf("kept %v", conn)
	}
	s.back()
	p.resumed(r)
	p.unlock(ids...)
	if err := r.b.AwaitKept(context.Background()); err != nil {
		t.Error(err)
	}
}
