package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// Entry is what is kept of one hold. What is in it is the broker's alone to know.
type Entry struct {
	ID           uint64
	Blob         []byte // at most MaxBlob bytes
	Lock, Holder int    // descriptors; -1: none
}

// Past is what the keeper knows beside its entries.
type Past struct {
	// Complete: the entries are all that there were. This keeper process has answered a Sync, so a broker had sent it
	// everything, and it has lost nothing since.
	Complete bool
	Highest  uint64 // the greatest id with the top bit clear that was ever put to this keeper process
	Room     int    // how many entries it can keep
}

var (
	// ErrFull: the keeper cannot take it now, and nothing was sent.
	ErrFull = errors.New("the keeper is full")
	// ErrNoRoom is an ErrFull that does not pass by waiting: only a Drop makes room.
	ErrNoRoom = fmt.Errorf("%w: it has as many entries as it can keep", ErrFull)
	// ErrGone: the keeper, or the connection to it, has ended.
	ErrGone = errors.New("the keeper is gone")

	errQueue   = fmt.Errorf("%w: it is behind with reading", ErrFull)
	errCrowded = fmt.Errorf("%w: too many descriptors are in flight", ErrFull)
)

// Conn is the broker's end of a connection to the keeper. It is safe for concurrent use.
type Conn struct {
	conn *net.UnixConn
	out  *sender // used by who holds mu
	pid  int32

	gone    chan struct{}  // closed by the reader at its end
	reading sync.WaitGroup // the reader; joined by Close

	mu       sync.Mutex // guards the fields below; held across non-blocking sends only
	closed   bool
	room     int                 // entries that the keeper can keep
	kept     map[uint64]struct{} // ids of the entries that it keeps, or will when it has read so far
	unsent   []uint64            // Drops that the queue did not take; sent before all else
	writable chan struct{}       // closed when the queue takes more; nil: nobody waits for that
	listing  *listing            // nil: none under way
	syncs    map[uint64]chan<- struct{}
	lastSync uint64
	cause    error // why the reader has ended the connection

	watching sync.WaitGroup // of writable; joined by Close
}

// queueSize is how much of what is sent the kernel keeps for a keeper that is behind, bytes of its own accounting, before it
// doubles it. See doc.go for what that holds.
const queueSize = 4 << 20

// Dial connects to the keeper at path, in one attempt, and checks that the program that listens there belongs to root, to us,
// or to the owner of the directory, if nobody but that owner can write there.
func Dial(ctx context.Context, path string) (*Conn, error) {
	conn, pid, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	c, err := newConn(conn, pid)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to the keeper at %q: %w", path, err)
	}
	return c, nil
}

func newConn(conn *net.UnixConn, pid int32) (*Conn, error) {
	in, err := newReceiver(conn, false)
	if err != nil {
		return nil, err
	}
	out, err := newSender(conn)
	if err != nil {
		return nil, err
	}
	out.raw.Control(func(fd uintptr) {
		// Beyond /proc/sys/net/core/wmem_max only with CAP_NET_ADMIN, and up to it without. socket(7). What we get is enough
		// to start with: a queue that is full refuses, and loses nothing.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, queueSize) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, queueSize)
		}
	})
	c := &Conn{conn: conn, out: out, pid: pid, gone: make(chan struct{}), room: 1 << 30, kept: map[uint64]struct{}{}, syncs: map[uint64]chan<- struct{}{}}
	c.reading.Go(func() { c.read(in) })
	return c, nil
}

// PID is the process that called listen(2): the keeper's, unless its socket was passed to it.
func (c *Conn) PID() int32 { return c.pid }

// Gone is closed as soon as the keeper's end is gone, or after Close.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// Close ends the connection. What was sent is still read by the keeper.
func (c *Conn) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.flush()
	}
	c.closed = true
	c.mu.Unlock()
	err := c.conn.Close()
	c.reading.Wait()
	c.watching.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil // it was ended before
	}
	return err
}

// wait tries until the queue takes it.
func (c *Conn) wait(ctx context.Context, try func() error) error {
	for {
		c.mu.Lock()
		err := try()
		c.mu.Unlock()
		if err == nil {
			return nil
		}
		if err := c.Await(ctx, err); err != nil {
			return err
		}
	}
}

// Await waits until another try may succeed after Put has given err: for sending everything again. It does not make the try, since
// what is to be put may have ended meanwhile. Of an err that does not pass by waiting, ErrNoRoom for instance, it gives that at once.
func (c *Conn) Await(ctx context.Context, err error) error {
	switch err {
	case errQueue:
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return ErrGone
		}
		writable := c.awaitWritable()
		c.mu.Unlock()
		select {
		case <-writable:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case errCrowded:
		return pauseCrowded(ctx)
	}
	return err
}

// awaitWritable gives a channel that is closed when the queue takes more, or never will. The caller holds mu, and c is not closed.
func (c *Conn) awaitWritable() <-chan struct{} {
	if c.writable == nil {
		c.writable = make(chan struct{})
		c.watching.Go(c.watch)
	}
	return c.writable
}

// watch tells those who wait for room in the queue, and sends the Drops that had none. It lives as long as there are either.
func (c *Conn) watch() {
	for {
		err := waitWritable(c.out.raw) // returns when the peer is gone or the connection closed, too
		c.mu.Lock()
		close(c.writable)
		c.writable = nil
		left := c.flush()
		again := err == nil && (left == errQueue || left == errCrowded)
		if again {
			c.writable = make(chan struct{})
		}
		c.mu.Unlock()
		if !again {
			return
		}
		if left == errCrowded {
			pauseCrowded(context.Background()) // out of memory
		}
	}
}
