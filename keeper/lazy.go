package keeper

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lag is how long the keeper leaves messages in its queue while there is traffic. Nobody waits for it but a broker that starts or
// ends: what is in the queue is kept. Woken for each message it would cost a grant a third of its rate (BenchmarkBesideEcho).
const lag = time.Millisecond

// lazyConn is a socket that is read in batches. It is a RawConn outside the runtime's poller, which would be woken by each message
// whether anybody reads it or not. It belongs to one goroutine, but for shut.
type lazyConn struct {
	fd       int
	pausing  func() // called when all that had come has been read
	busy     bool   // something came since the last pause
	deadline time.Time
}

// newLazyConn has a descriptor of its own, which the caller must close.
func newLazyConn(conn syscall.Conn, pausing func()) (*lazyConn, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &lazyConn{fd: -1, pausing: pausing}
	var dupErr error
	if err := raw.Control(func(fd uintptr) { c.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return c, nil
}

func (c *lazyConn) SyscallConn() (syscall.RawConn, error) { return c, nil }

func (c *lazyConn) Control(f func(fd uintptr)) error {
	f(uintptr(c.fd))
	return nil
}

// Read calls f until it is true, whenever there may be more to read.
func (c *lazyConn) Read(f func(fd uintptr) bool) error {
	for !f(uintptr(c.fd)) {
		c.pausing()
		if c.busy {
			c.busy = false
			time.Sleep(lag)
			continue
		}
		if _, err := await(c.fd, unix.POLLIN, -1); err != nil {
			return err
		}
	}
	c.busy = true
	return nil
}

// Write calls f until it is true, whenever there may be room, or until the deadline.
func (c *lazyConn) Write(f func(fd uintptr) bool) error {
	for !f(uintptr(c.fd)) {
		left := time.Until(c.deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		if _, err := await(c.fd, unix.POLLOUT, int(left.Milliseconds())+1); err != nil {
			return err
		}
	}
	return nil
}

// await is poll(2) of one descriptor.
func await(fd int, events int16, timeoutMS int) (ready bool, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(p, timeoutMS)
		if err != unix.EINTR {
			return n > 0, err
		}
	}
}

// shut ends the connection both ways, and wakes whoever reads. What was sent before is still read. shutdown(2).
func (c *lazyConn) shut() { unix.Shutdown(c.fd, unix.SHUT_RDWR) }

func (c *lazyConn) close() { unix.Close(c.fd) }
