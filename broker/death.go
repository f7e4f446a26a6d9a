package broker

import (
	"encoding/binary"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// deathWatch waits on the pidfds of all peers with one epoll instance. A client is dead at EOF of its socket or when its
// pidfd says so, whichever is first: a child may go on holding the socket open. pidfd_open(2), epoll(7).
type deathWatch struct {
	epoll int
	stop  int // eventfd: watch returns
	once  sync.Once
}

func newDeathWatch() (*deathWatch, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, err
	}
	d := &deathWatch{epoll: ep, stop: ev}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		unix.Close(ep)
		unix.Close(ev)
		return nil, err
	}
	return d, nil
}

// add watches a peer; without a pidfd (before Linux 6.5) EOF alone tells of its death. The session's id travels with the event, so a descriptor number that was used again meanwhile
// cannot end somebody else's session.
func (d *deathWatch) add(pidfd int, session uint64) error {
	if pidfd < 0 {
		return nil // a kernel before 6.5 gives none: then EOF alone tells
	}
	return unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, pidfd, deathOf(session))
}

// rename has the death of a peer that is watched told as that of another session, and told again if it was told before.
func (d *deathWatch) rename(pidfd int, session uint64) error {
	if pidfd < 0 {
		return nil
	}
	return unix.EpollCtl(d.epoll, unix.EPOLL_CTL_MOD, pidfd, deathOf(session))
}

func deathOf(session uint64) *unix.EpollEvent {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
	var id [8]byte
	binary.NativeEndian.PutUint64(id[:], session)
	e.Fd = int32(binary.NativeEndian.Uint32(id[:4]))
	e.Pad = int32(binary.NativeEndian.Uint32(id[4:]))
	return &e
}

// remove ends the watch and closes the pidfd; closing the last descriptor takes it out of the epoll set.
func (d *deathWatch) remove(pidfd int) {
	if pidfd >= 0 {
		unix.Close(pidfd)
	}
}

// watch calls died with the session id of each peer that dies, until close.
func (d *deathWatch) watch(died func(session uint64)) {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(d.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		for _, e := range events[:n] {
			var id [8]byte
			binary.NativeEndian.PutUint32(id[:4], uint32(e.Fd))
			binary.NativeEndian.PutUint32(id[4:], uint32(e.Pad))
			session := binary.NativeEndian.Uint64(id[:])
			if session == 0 { // no session has this id, see newSessionID: this is stop
				return
			}
			died(session)
		}
	}
}

// close makes watch return. The descriptors are closed by release, after it has.
func (d *deathWatch) close() {
	d.once.Do(func() {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		unix.Write(d.stop, one[:]) // wakes the epoll; cannot block, the counter is far from full
	})
}

// release closes the descriptors; watch must have returned, or never have run.
func (d *deathWatch) release() {
	unix.Close(d.epoll)
	unix.Close(d.stop)
}
