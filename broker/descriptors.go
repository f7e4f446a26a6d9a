package broker

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Descriptors are what lockerd runs out of first. Clients may use nine tenths of them, so that the log, /proc and the
// policy can always be opened; root may use a few more than others, to be able to look and to break.

var errShortOfDescriptors = errors.New("lockerd is short of file descriptors")

// descriptors says how many clients make us use: each connection has its socket and its pidfd, each file that is held,
// waited for, being opened or closed apart its own. The caller holds mu.
func (b *Broker) descriptors() int {
	return 2*b.connections + b.table.files() + b.opening
}

// mayUse reports whether uid may make us use n descriptors more. The caller holds mu.
func (b *Broker) mayUse(uid uint32, n int) bool {
	room := descriptorLimit() * 9 / 10
	if uid == 0 {
		room += rootConnections
	}
	return b.descriptors()+n <= room
}

// beginOpening counts n files that are about to be opened for uid, unless that is too many.
func (b *Broker) beginOpening(uid uint32, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mayUse(uid, n) {
		return errShortOfDescriptors
	}
	b.opening += n
	return nil
}

// endOpening takes back what beginOpening has counted.
func (b *Broker) endOpening(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opening -= n
}

// isShortage reports whether err says that lockerd or the system is short of something for the moment.
func isShortage(err error) bool {
	return errors.Is(err, errShortOfDescriptors) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) ||
		errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

func descriptorLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, 1<<30))
}
