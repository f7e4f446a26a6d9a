package broker

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
