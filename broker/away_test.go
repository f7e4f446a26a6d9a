package broker

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hashicorp/go-hclog"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// awayHere makes a session of this process that is away, as a start does, with its pidfd at a number that nobody else uses.
func (r *rig) awayHere(id uint64) *session {
	r.t.Helper()
	pidfd, err := unix.PidfdOpen(selfPID(), 0)
	must(r.t, err)
	high, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 700)
	must(r.t, err)
	unix.Close(pidfd)
	w := &who{peer: authz.PeerFor(uint32(unix.Geteuid()), uint32(unix.Getegid()), nil), restored: true}
	w.peer.PID, w.peer.PidFD = int32(selfPID()), high
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	return r.b.addAway(id, w, resumeVersion)
}

// A number that was closed may be anybody's the next moment: a lock's, a client's, the log's.
func TestADescriptorOfASessionThatIsAwayIsClosedOnce(t *testing.T) {
	r := newRig(t, nil)
	innocent, err := unix.Open(r.file("innocent"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(innocent)
	for round := range 10 {
		s := r.awayHere(uint64(round) + 1)
		pidfd := s.peer.PidFD
		back := r.dial2()
		var ends, takes sync.WaitGroup
		r.b.mu.Lock() // all of them are at the door at once
		for range 6 {
			ends.Go(func() { r.b.endAway(t.Context(), s, "test") })
		}
		resume := back.send(&wire.Resume{Session: s.id})
		takes.Go(func() { // takes the number as soon as it is free
			for {
				fd, err := unix.FcntlInt(uintptr(innocent), unix.F_DUPFD_CLOEXEC, pidfd)
				if err != nil || fd == pidfd {
					return
				}
				unix.Close(fd)
			}
		})
		// Whoever waits so long, and in vain, has the mutex go from hand to hand, so that all are inside before one comes again.
		// That shows the bug, and nothing passes by it.
		time.Sleep(2 * time.Millisecond)
		r.b.mu.Unlock()
		r.b.mu.Lock()
		time.Sleep(2 * time.Millisecond)
		r.b.mu.Unlock()
		ends.Wait()
		back.answer(resume)
		takes.Wait()
		if err := unix.Close(pidfd); err != nil {
			t.Fatalf("round %d: somebody else's descriptor was closed", round)
		}
	}
}

// A hand-over ends no session, so it closes nothing of any.
func TestWhatIsHandedOverIsNotClosed(t *testing.T) {
	r, s := withKeeper(t, nil)
	away := r.awayHere(1)
	r.b.handed.Store(true)
	r.b.endAway(t.Context(), away, "test")
	r.b.handed.Store(false)
	if _, err := unix.FcntlInt(uintptr(away.peer.PidFD), unix.F_GETFD, 0); err != nil {
		t.Error("its pidfd is closed, and it is there still")
	}
	s.leave()
	s.back()
}

func TestAPlaceWhoseClientIsBackAndDoesNotAskForItEnds(t *testing.T) {
	var clock still
	r, s := withKeeper(t, clock.drive)
	p, q := r.dial2(), r.dial2()
	a := r.file("a")
	g := p.granted(attached(a))
	q.queued(q.send(attached(a)))
	s.crash()
	s.back()
	p.resumed(r)
	q.resumed(r) // and says no more
	clock.forward(r, time.Second)
	next := r.dial2()
	n := next.send(attached(a))
	next.queued(n)
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	clock.forward(r, defaultPatience-time.Second-1)
	r.b.endDue(t.Context())
	if next.isAnswered(n) {
		t.Fatal("the place has ended before its time")
	}
	clock.forward(r, 1)
	grants(t, next.answer(n))
	r.checkReplay()
}

// Whether a place is the session's again is decided by when its client asks, and that must not count against the wait itself.
func TestAPlaceThatIsTakenInTimeHasNoOtherEndThanItsOwn(t *testing.T) {
	var clock still
	r, s := withKeeper(t, clock.drive)
	p, q := r.dial2(), r.dial2()
	a := r.file("a")
	g := p.granted(attached(a))
	ask := attached(a)
	id := q.send(ask)
	q.queued(id)
	s.crash()
	s.back()
	p.resumed(r)
	q.resumed(r)
	q.repeat(id, ask)
	q.queued(id)
	clock.forward(r, time.Hour)
	r.b.endDue(t.Context())
	if q.isAnswered(id) {
		t.Error("a wait without an end has ended")
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	grants(t, q.answer(id))
	r.checkReplay()
}

// And the keeper is not told of that end, or the broker after the next would take it for the wait's.
func TestTheEndOfAWaitOutlivesAKeeperWhileItsClientIsAway(t *testing.T) {
	for _, back := range []bool{false, true} {
		var clock still
		r, s := withKeeper(t, clock.drive)
		p, q := r.dial2(), r.dial2()
		a := r.file("a")
		p.granted(attached(a))
		id := q.send(timed(attached(a), time.Hour))
		q.queued(id)
		clock.forward(r, 20*time.Minute)
		s.crash()
		s.back()
		if back {
			q.resumed(r)
		}
		s.end()
		s.start()
		eventually(t, "the next keeper has everything", func() bool {
			r.b.mu.Lock()
			defer r.b.mu.Unlock()
			return r.b.keeping.ready && r.b.keeping.conn != s.conn
		})
		s.crash()
		s.back()
		p.resumed(r)
		q.resumed(r)
		q.repeat(id, timed(attached(a), 40*time.Minute)) // what is left of it
		q.queued(id)
		clock.forward(r, 40*time.Minute-1)
		r.b.endDue(t.Context())
		if q.isAnswered(id) {
			t.Errorf("back %v: timed out before its time", back)
		}
		clock.forward(r, 1)
		if e := asError(t, q.answer(id)); e.Code != wire.CodeTimeout {
			t.Errorf("back %v: %+v", back, e)
		}
		r.halt()
	}
}

// pausing is a logger at whose errors a test does something.
type pausing struct {
	hclog.Logger
	at func()
}

func (p pausing) Error(string, ...any) { p.at() }

func TestWhatASessionHasLostComesBehindTheAnswerThatItIsBack(t *testing.T) {
	for what, ends := range map[string]func(r *rig, h *hold){
		"broken": func(r *rig, h *hold) {
			root := r.dial()
			root.answer(root.send(&wire.Break{By: wire.ByID, ID: h.id, Reason: "x"}))
		},
		"expired": func(r *rig, h *hold) { r.b.expire(r.t.Context(), h) },
	} {
		t.Run(what, func(t *testing.T) {
			var meanwhile func() // between the session's being taken over and its record's being written
			r, s := withKeeper(t, func(r *rig) {
				r.alter = func(_ *audit.Config, c *Config) { c.Logger = pausing{hclog.NewNullLogger(), func() { meanwhile() }} }
			})
			p := r.dial2()
			id := p.granted(attached(r.file("a")))[0].ID
			s.crash()
			s.back()
			r.b.mu.Lock()
			h := r.b.table.byID(id)
			r.b.mu.Unlock()
			ended := make(chan struct{})
			meanwhile = func() { defer close(ended); ends(r, h) }
			back := r.dial2()
			r.b.mu.Lock()
			pidfd := r.b.sessions[back.session].peer.PidFD
			r.b.mu.Unlock()
			must(t, unix.EpollCtl(r.b.deaths.epoll, unix.EPOLL_CTL_DEL, pidfd, nil)) // so that there is an error to tell of
			back.send(&wire.Resume{Session: p.session})
			_, first, err := back.read()
			must(t, err)
			_, second, err := back.read()
			must(t, err)
			<-ended
			if _, ok := first.(*wire.Resumed); !ok || second.Type() != wire.TypeLost {
				t.Errorf("first %+v, then %+v", first, second)
			}
		})
	}
}

func TestALossIsToldOnceToAClientThatComesBackAtThatMoment(t *testing.T) {
	r, s := withKeeper(t, nil)
	peers := make([]*peer, 30)
	ids := make([]uint64, len(peers))
	for i := range peers {
		peers[i] = r.dial2()
		m := attached(r.file(uintText(uint64(i))))
		m.Grace = wire.MaxGrace
		ids[i] = peers[i].granted(m)[0].ID
	}
	s.crash()
	s.back()
	root := r.dial()
	for i, p := range peers {
		var told sync.WaitGroup
		told.Go(func() { root.answer(root.send(&wire.Break{By: wire.ByID, ID: ids[i], Reason: "x"})) })
		p.resumed(r)
		told.Wait()
		p.answer(p.send(&wire.Status{}))
		n := 0
		for _, k := range p.kept {
			if _, ok := k.m.(*wire.Lost); ok {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("hold %d: told %d times", i, n)
		}
	}
}

func TestAClientThatComesBackIsToldWhyItsHoldEnds(t *testing.T) {
	for _, both := range []bool{false, true} { // restarts: one before the end, and one after it
		var clock clocks
		r, s := withKeeper(t, func(r *rig) {
			clock.drive(r)
			r.policy = rules(r.files, "allow = [\"FILES\"]\n[[rule]]\nname = \"a minute\"\nusers = [\"*\"]\npaths = [\"FILES\"]\nmax_hold = \"1m\"\ncan = [\"lock\", \"break\"]\n")
		})
		p := r.dialUser2()
		expires, broken := attached(r.file("a")), attached(r.file("b"))
		for _, m := range []*wire.Lock{expires, broken} {
			m.Grace = 10 * time.Second
		}
		want := map[uint64]wire.LossCause{}
		ids := []uint64{p.granted(expires)[0].ID, 0}
		clock.pass(r, 40*time.Second)
		ids[1] = p.granted(broken)[0].ID
		want[ids[0]], want[ids[1]] = wire.Expired, wire.Broken
		s.crash()
		s.back()
		clock.pass(r, 20*time.Second)
		root := r.dial()
		root.answer(root.send(&wire.Break{By: wire.ByID, ID: ids[1], Reason: "x"}))
		r.b.endDue(t.Context())
		eventually(t, "the lease's end", func() bool { return len(r.records(audit.EventExpire)) == 1 })
		if both {
			s.crash()
			s.back()
		}
		p.againUser(r)
		for range ids {
			l := p.lost()
			if l.Cause != want[l.ID] {
				t.Errorf("restarted again %v: hold %d: %v, want %v", both, l.ID, l.Cause, want[l.ID])
			}
			p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: l.ID}))
		}
		r.halt()
	}
}
