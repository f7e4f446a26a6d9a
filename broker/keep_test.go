package broker

import (
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

// shelf is a Keep that holds real copies, as a keeper process does.
type shelf struct {
	mu    sync.Mutex
	fds   map[uint64]int
	full  bool
	late  bool  // it hears of a Drop and takes its time
	slack []int // so these are still open
	wrong error
}

func (s *shelf) drive(r *rig) {
	s.fds = map[uint64]int{}
	r.alter = func(_ *audit.Config, c *Config) { c.Keep = s }
}

func (s *shelf) Put(id uint64, fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errors.New("the shelf is full")
	}
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if _, twice := s.fds[id]; twice || err != nil {
		s.wrong = errors.Join(err, errors.New("put twice, or not open"))
		return s.wrong
	}
	s.fds[id] = copied
	return nil
}

func (s *shelf) Drop(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd, ok := s.fds[id]
	switch {
	case !ok:
	case s.late:
		s.slack = append(s.slack, fd)
	default:
		unix.Close(fd)
	}
	delete(s.fds, id)
}

func (s *shelf) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fds)
}

func TestEveryHoldsDescriptorIsKeptFromItsGrantToItsRelease(t *testing.T) {
	var s shelf
	r := newRig(t, s.drive)
	base := r.atRest()
	a, b, c := r.file("a"), r.file("b"), r.file("c")
	p, q := r.dial(), r.dial()
	g := p.granted(attached(a, b))
	p.granted(detached(c))
	if n := s.kept(); n != 3 {
		t.Errorf("%d descriptors are kept of three holds", n)
	}
	id := q.send(attached(a))
	q.queued(id)
	// A copy is still open when the lock is let go: an explicit unlock frees the file all the same.
	s.late = true
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	grants(t, q.answer(id))
	s.mu.Lock()
	s.late = false
	for _, fd := range s.slack {
		unix.Close(fd)
	}
	s.mu.Unlock()
	if n := s.kept(); n != 3 {
		t.Errorf("%d", n)
	}
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	if e := p.refused(attached(r.file("d"))); e.Code != wire.CodeUnavailable || !isFree(t, r.files+"/d") {
		t.Errorf("%+v", e)
	}
	if e := p.refused(attached(r.file("e"), r.file("f"))); e.Code != wire.CodeUnavailable || !isFree(t, r.files+"/e") {
		t.Errorf("%+v", e)
	}
	r.checkReplay()
	s.mu.Lock()
	s.full = false
	s.mu.Unlock()
	p.answer(p.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
	p.conn.Close()
	q.conn.Close()
	r.settles(base)
	if n := s.kept(); n != 0 || s.wrong != nil {
		t.Errorf("%d descriptors are kept of no holds; %v", n, s.wrong)
	}
}
