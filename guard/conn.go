package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrGone: the guard, or the connection to it, has ended, and nothing is guarded any more.
	ErrGone = errors.New("the guard is gone")
	// ErrFull: the guard has as many directories as it has descriptors for.
	ErrFull = errors.New("the guard is full")
	// ErrHeld: the id guards something already.
	ErrHeld = errors.New("guarded already")
	// ErrUnfit: it cannot be guarded: no directory, opened with O_PATH, or on a file system that may hang.
	ErrUnfit = errors.New("not to be guarded")

	errOrder = errors.New("deny comes first, and once")
)

// Conn is the broker's end of a connection to the guard. It is safe for concurrent use.
type Conn struct {
	conn *net.UnixConn
	raw  syscall.RawConn
	pid  int32

	gone    chan struct{}  // closed by the reader at its end
	reading sync.WaitGroup // the reader; joined by Close
	more    chan struct{}  // has a token when there may be events; the sender never waits

	mu      sync.Mutex // guards the fields below; held across non-blocking sends only
	last    uint32     // number of a request
	waiting map[uint32]chan<- error
	events  []Event // those not taken yet; refusals of one ID and Executable are one
}

// Dial connects to the guard at path, in one attempt, and checks that the program that listens there is root's or our own.
//
// Whoever can rename in the way to the socket chooses what is connected to, which is why the listener is asked for.
func Dial(ctx context.Context, path string) (*Conn, error) {
	var dialer net.Dialer
	any, err := dialer.DialContext(ctx, "unixpacket", path)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return nil, fmt.Errorf("connect to the guard at %q: %w", path, err)
	}
	conn := any.(*net.UnixConn)
	peer, err := peerOf(conn)
	if err == nil && peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		err = fmt.Errorf("the program that listens belongs to uid %d, who is not to be trusted with files", peer.Uid)
	}
	var c *Conn
	if err == nil {
		c, err = newConn(conn, peer.Pid)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to the guard at %q: %w", path, err)
	}
	return c, nil
}

func newConn(conn *net.UnixConn, pid int32) (*Conn, error) {
	in, err := newReceiver(conn)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, raw: in.raw, pid: pid, gone: make(chan struct{}), more: make(chan struct{}, 1), waiting: map[uint32]chan<- error{}}
	c.reading.Go(func() { c.read(in) })
	return c, nil
}

// PID is the process that called listen(2): the guard's, unless its socket was passed to it.
func (c *Conn) PID() int32 { return c.pid }

// Gone is closed as soon as the guard's end is gone, or after Close: from then on nothing is guarded.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// Close ends the connection, and with it all that is guarded.
func (c *Conn) Close() error {
	err := c.conn.Close()
	c.reading.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // it was ended before
	}
	return err
}

// Deny names the programs that are refused: at most MaxPaths absolute paths, as /proc/PID/exe shows them, so with all symbolic
// links resolved; 16 KiB together. Once in a connection, before the first Guard. ErrUnavailable says why nothing can be guarded.
func (c *Conn) Deny(ctx context.Context, paths []string) error {
	m := &message{kind: kindDeny, paths: paths}
	size := len(appendMessage(nil, &message{kind: kindDeny}))
	for _, path := range paths {
		if !isPath(path) {
			return fmt.Errorf("deny %q: not an absolute path that a program could have", path)
		}
		size += len(appendText(nil, path))
	}
	if len(paths) == 0 || len(paths) > MaxPaths || size > maxMessage {
		return fmt.Errorf("deny: %d paths of %d bytes; the limits are 1 to %d, and %d bytes", len(paths), size, MaxPaths, maxMessage)
	}
	return wrap("deny", c.ask(ctx, m))
}

// Guard refuses, from when it returns nil until Lift, opens of files that lie directly in one of the directories: 1 to MaxDirs
// descriptors, open for reading (not O_PATH), which stay the caller's. The id is not 0. All or none; after ErrGone, none; after an
// error of ctx nobody knows, and Lift makes it none. The errors are ErrUnavailable, ErrFull, ErrHeld, ErrUnfit, ErrGone.
func (c *Conn) Guard(ctx context.Context, id uint64, dirs []int) error {
	if id == 0 || len(dirs) == 0 || len(dirs) > MaxDirs {
		return fmt.Errorf("guard id %d, %d directories: the id must not be 0, and 1 to %d directories", id, len(dirs), MaxDirs)
	}
	return wrap("guard", c.ask(ctx, &message{kind: kindGuard, set: uint8(len(dirs)), id: id}, dirs...))
}

// Lift ends what Guard began; from when it returns nil the id refuses nobody. An id that guards nothing is no error.
func (c *Conn) Lift(ctx context.Context, id uint64) error {
	if id == 0 {
		return errors.New("lift id 0: there is none")
	}
	return wrap("lift", c.ask(ctx, &message{kind: kindLift, id: id}))
}

// Ping is answered by a guard that lives.
func (c *Conn) Ping(ctx context.Context) error {
	return wrap("ping", c.ask(ctx, &message{kind: kindPing}))
}

func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", op, err)
}

// crowdedPause is how long one waits for room in the queue, or for descriptors in flight to arrive (ETOOMANYREFS), for which
// there is no event. It takes a hundred requests that the guard has not read yet.
const crowdedPause = 2 * time.Millisecond

// ask sends a request and waits for its answer.
func (c *Conn) ask(ctx context.Context, m *message, fds ...int) error {
	answer := make(chan error, 1) // the reader never waits
	for {
		err := c.send(m, answer, fds)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ETOOMANYREFS) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		pause := time.NewTimer(crowdedPause)
		select {
		case <-pause.C:
		case <-c.gone:
		case <-ctx.Done():
		}
		pause.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, m.number)
		c.mu.Unlock()
		return ctx.Err()
	}
}

// send gives m a number and sends it; its answer, or the end of the connection, comes to answer.
func (c *Conn) send(m *message, answer chan<- error, fds []int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		return ErrGone
	}
	for c.last++; c.last == 0 || c.waiting[c.last] != nil; c.last++ {
	}
	m.number = c.last
	switch err := send(c.raw, m, fds...); {
	case err == nil:
		c.waiting[m.number] = answer
		return nil
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET), errors.Is(err, net.ErrClosed):
		return ErrGone
	default:
		return err
	}
}

// read takes what the guard says, until its end.
func (c *Conn) read(in *receiver) {
	for {
		var m message
		err := in.receive()
		if err == nil {
			closeAll(in.rights) // the guard sends none
			err = parseMessage(in.packet, &m)
		}
		if err != nil || !c.take(&m) {
			break
		}
	}
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, answer := range c.waiting {
		answer <- ErrGone
	}
	c.waiting = nil
	close(c.gone)
}

// take is false for what no guard says.
func (c *Conn) take(m *message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.kind {
	case kindAnswer:
		if answer := c.waiting[m.number]; answer != nil { // else nobody waits any more
			answer <- m.err()
			delete(c.waiting, m.number)
		}
	case kindRefused:
		c.addRefused(Event{ID: m.id, PID: int32(m.pid), Executable: m.text, Count: m.count})
	case kindFailedOpen:
		c.events = append(c.events, Event{FailedOpen: m.text, Guarded: m.set == isGuarded})
	default:
		return false
	}
	if len(c.events) > 0 {
		c.wake()
	}
	return true
}

// err is what an answer says.
func (m *message) err() error {
	var kind error
	switch m.code {
	case codeOK:
		return nil
	case codeUnavailable:
		kind = ErrUnavailable
	case codeRoom:
		kind = ErrFull
	case codeHeld:
		kind = ErrHeld
	case codeUnfit:
		kind = ErrUnfit
	default:
		kind = errOrder
	}
	return fmt.Errorf("%w: %s", kind, m.text)
}
