package flock

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrInUse says that somebody else has the file open, or mapped, though he has no lock on it. errors.Is(ErrInUse, ErrBusy) holds.
var ErrInUse = fmt.Errorf("open elsewhere: %w", ErrBusy)

// NoIdle says that it cannot be found out whether somebody else has the file open, and why.
type NoIdle struct{ Why string }

func (e *NoIdle) Error() string { return "whether others have it open cannot be found out: " + e.Why }

// idleWish is what a claim asks about others who have the file open. The zero value: nothing.
type idleWish uint8

const (
	idleIfKnown idleWish = iota + 1 // there must be nobody, as far as that can be found out: a bundle's token
	idleKnown                       // there must be nobody, for certain: Want.Idle
)

// AsksIdle says that TryLock also asks whether somebody else has the file open.
func (f *File) AsksIdle() bool { return f.wish != 0 }

// wishIdle notes what is asked of f, or says why it cannot be.
func (f *File) wishIdle(w Want, regular bool) error {
	if w.InUse {
		return nil
	}
	why := ""
	switch {
	case !regular:
		why = "it is a directory"
	case w.Mode == Shared:
		why = "a shared lock leaves it to others to open the file"
	case f.Network: // the call may hang, and a server knows of opens that we do not see
		why = "it is on a network file system"
	}
	switch {
	case w.Idle && why != "":
		return &NoIdle{why}
	case w.Idle:
		f.wish = idleKnown
	case f.Bundle && why == "":
		f.wish = idleIfKnown
	}
	return nil
}

// probe asks the kernel whether anybody else has the file open for data, here or over NFS: a write lease is given only where
// there is no other open file description of the inode. One that is given is given back at once, so nobody waits longer for
// it than for us to get our processor again. fcntl(2), "Leases"
//
// What counts is the descriptions that can read or write: copies of ours do not, nor do O_PATH ones; a mapping keeps its
// description, whoever has closed the descriptor. An open that meets the lease is told to us by SIGIO, which does nothing to a Go
// program that has not asked for it (os/signal); one with O_NONBLOCK gets EAGAIN, which our own wait out: see probes.
//
// Privileged: an attacker decides when the file is open. CAP_LEASE is used, on a file that was judged.
func (f *File) probe() error {
	done := f.probes.begin(f.ID)
	defer done()
	_, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETLEASE, unix.F_WRLCK)
	switch err {
	case nil:
	case unix.EAGAIN, unix.EBUSY:
		return ErrInUse
	case unix.EACCES, unix.EPERM:
		return f.unknown("lockerd needs CAP_LEASE for files of others")
	case unix.EINVAL, unix.EOPNOTSUPP, unix.ENOLCK, unix.ENOSYS:
		return f.unknown("its file system, " + f.mount.fstype + ", has no leases")
	default:
		return fmt.Errorf("set lease: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
		return fmt.Errorf("give lease back: %w", err) // the caller closes the file, and the lease goes with it
	}
	f.Idle = true
	return nil
}

// AskAgain asks once more whether anybody else has a locked file open, of one that rests on it: ErrInUse. It lets go of nothing.
//
// Privileged: as probe.
func (f *File) AskAgain() error {
	if f.held == 0 || !f.Idle {
		return nil
	}
	f.Idle = false // what cannot be found out any more
	err := f.probe()
	if err != nil {
		f.Idle = true // as it was asked for: the caller asks again, or lets go
	}
	if err != nil && err != ErrInUse {
		err = f.lockError(err)
	}
	return err
}

func (f *File) unknown(why string) error {
	if f.wish == idleKnown {
		return &NoIdle{why}
	}
	return nil
}

// probes are the files that are being asked about at this moment. Until a lease is given back our own opens of the file, which
// never wait, get EAGAIN, as they do from a stranger's lease.
type probes struct {
	// mu guards what follows; it is not held during a system call.
	mu      sync.Mutex
	running map[ID]*probing
	ended   uint64 // how many have, of any file
}

type probing struct {
	count int
	done  chan struct{} // closed by the last
}

func newProbes() *probes { return &probes{running: make(map[ID]*probing)} }

func (p *probes) begin(id ID) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.running[id]
	if g == nil {
		g = &probing{done: make(chan struct{})}
		p.running[id] = g
	}
	g.count++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if g.count--; g.count == 0 {
			delete(p.running, id)
			p.ended++
			close(g.done)
		}
	}
}

// maxProbesMet bounds how often in a row an open waits for a probe of ours: of one file there is one at a time, and none is long.
const maxProbesMet = 32

// past calls open again as long as a lease of ours may be what was in its way.
func (p *probes) past(id ID, open func() (int, error)) (int, error) {
	_, ended := p.look(id)
	for met := 0; ; met++ {
		fd, err := open()
		if err != unix.EAGAIN || met == maxProbesMet {
			return fd, err
		}
		g, now := p.look(id)
		switch {
		case g != nil:
			<-g.done // its two calls do not wait for anybody
		case now == ended: // and none has ended since we began to open
			return fd, err
		}
		ended = now
	}
}

func (p *probes) look(id ID) (g *probing, ended uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running[id], p.ended
}
