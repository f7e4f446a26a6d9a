package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// DefaultSocket is where lockerd listens unless told otherwise.
const DefaultSocket = "/run/locker.sock"

// SocketEnv is the environment variable that overrides DefaultSocket.
const SocketEnv = "LOCKER_SOCKET"

// Socket gives the socket that Dial uses when it is given none: $LOCKER_SOCKET, else DefaultSocket.
func Socket() string {
	if s := os.Getenv(SocketEnv); s != "" {
		return s
	}
	return DefaultSocket
}

// Welcome is what lockerd says of itself: protocol version, program version, session number and the limits of a
// request.
type Welcome = wire.Welcome

// Option changes how Dial works.
type Option func(*options)

type options struct {
	trusted []uint32
}

// TrustUID accepts a lockerd that this user runs, beside root's and our own.
func TrustUID(uid uint32) Option {
	return func(o *options) { o.trusted = append(o.trusted, uid) }
}

// Dial connects to the lockerd at socket, "" meaning Socket(). It returns ErrUnreachable if there is none, and ErrUntrusted
// if the one that is there is run neither by root nor by us (our effective uid): it could grant whatever it likes.
func Dial(ctx context.Context, socket string, opts ...Option) (*Client, error) {
	if socket == "" {
		socket = Socket()
	}
	o := options{trusted: []uint32{0, uint32(os.Geteuid())}}
	for _, opt := range opts {
		opt(&o)
	}
	conn, err := connect(ctx, socket)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, socket, ctx.Err())
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, socket, cause(err))
	}
	uid, err := listener(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w at %s: ask the kernel who listens there: %w", ErrUntrusted, socket, err)
	}
	if !slices.Contains(o.trusted, uid) {
		conn.Close()
		return nil, &ForeignError{Socket: socket, UID: uid}
	}
	return New(ctx, conn)
}

// connect dials, again for as long as the listener's backlog is full: net's sockets are non-blocking, for which
// connect(2) says EAGAIN where a blocking one would wait its turn. The descriptor is close-on-exec from the start.
func connect(ctx context.Context, socket string) (*net.UnixConn, error) {
	const longest = 50 * time.Millisecond
	var d net.Dialer
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// listener gives the uid of the process that called listen(2): SO_PEERCRED, unix(7). That is not always the process that
// accepts, but nobody else can have made the socket at that name listen.
func listener(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, sockErr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// cause takes the words that net puts around an errno off again: the caller names the socket itself.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// New says hello on a connection to a lockerd that the caller trusts, and takes the connection over: it is closed
// when New fails, and by Close.
func New(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{
		conn:  conn,
		in:    bufio.NewReaderSize(conn, readBuffer),
		write: make(chan struct{}, 1),
		done:  make(chan struct{}),
		calls: make(map[uint32]*call),
		holds: make(map[uint64][]*Lock),
		early: make(map[uint64]*wire.Lost),
	}
	if err := c.greet(ctx); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: no answer: %w", ErrUnreachable, ctx.Err())
		}
		return nil, err
	}
	c.work.Go(c.read) // joined by Close
	return c, nil
}

// greet exchanges Hello and Welcome.
func (c *Client) greet(ctx context.Context) error {
	stop := interrupt(ctx, c.conn.SetDeadline)
	defer stop()
	hello, err := wire.Append(nil, 1, &wire.Hello{Min: wire.Version, Max: wire.Version})
	if err != nil {
		return err
	}
	c.last = 1
	// A lockerd at its limit says so and closes without reading: the error frame is worth more than our EPIPE.
	_, sent := c.conn.Write(hello)
	body, err := wire.ReadFrame(c.in, nil)
	if err != nil {
		if sent != nil {
			err = sent
		}
		return fmt.Errorf("%w: %w", ErrUnreachable, ended(err))
	}
	_, m, err := wire.Parse(body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	switch m := m.(type) {
	case *wire.Welcome:
		if m.Version != wire.Version {
			return &Error{Code: wire.CodeVersion, Text: fmt.Sprintf("lockerd chose version %d of the protocol, which we did not offer", m.Version)}
		}
		c.welcome = *m
		return nil
	case *wire.Error:
		return refusal(m)
	}
	return unexpected(m)
}

// interrupt arms set (a deadline setter) to fire when ctx ends. The function it gives disarms it, and takes the deadline
// away again if it had fired.
func interrupt(ctx context.Context, set func(time.Time) error) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	fired := make(chan struct{})
	disarm := context.AfterFunc(ctx, func() {
		defer close(fired)
		set(time.Unix(1, 0))
	})
	return func() {
		if !disarm() {
			<-fired
			set(time.Time{})
		}
	}
}
