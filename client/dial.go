package client

import (
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

type options struct{ dialer }

// TrustUID accepts a lockerd that this user runs, beside root's and our own.
func TrustUID(uid uint32) Option {
	return func(o *options) { o.trusted = append(o.trusted, uid) }
}

// Dial connects to the lockerd at socket, "" meaning Socket(). It returns ErrUnreachable if there is none, and ErrUntrusted
// if the one that is there is run neither by root nor by us (our effective uid): it could grant whatever it likes.
//
// A lockerd that is restarted in that moment is waited for. Later, the Client connects to the same socket again when the
// connection breaks, with the same trust; a relative path is then looked up from the directory that is current by then.
func Dial(ctx context.Context, socket string, opts ...Option) (*Client, error) {
	if socket == "" {
		socket = Socket()
	}
	o := options{dialer{socket: socket, trusted: []uint32{0, uint32(os.Geteuid())}, patience: patience}}
	o.open = o.dialer.connect
	for _, opt := range opts {
		opt(&o)
	}
	d := &o.dialer
	l, err := d.once(ctx)
	if errors.Is(err, errHungUp) {
		_, err = d.again(ctx, err, 0, func(ctx context.Context) (err error) {
			l, err = d.once(ctx)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	return begin(l, d), nil
}

// New says hello on a connection to a lockerd that the caller trusts, and takes the connection over: it is closed
// when New fails, and by Close. Such a Client does not outlive its connection: it cannot make another.
func New(ctx context.Context, conn net.Conn) (*Client, error) {
	l, err := greet(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return begin(l, nil), nil
}

// begin makes a Client with a session of its own.
func begin(l *link, redial *dialer) *Client {
	ctx, hangUp := context.WithCancel(context.Background())
	c := &Client{
		redial:  redial,
		hangUp:  hangUp,
		done:    make(chan struct{}),
		link:    l,
		welcome: l.welcome,
		last:    greeting,
		calls:   make(map[uint32]*call),
		holds:   make(map[uint64][]*Lock),
		early:   make(map[uint64]*wire.Lost),
		soon:    make(map[uint64]wire.Alteration),
	}
	c.work.Go(func() { // joined by Close
		defer hangUp()
		c.serve(ctx, l)
	})
	return c
}

// dialer knows the way to one lockerd.
type dialer struct {
	socket   string
	trusted  []uint32      // uids
	patience time.Duration // with a lockerd that has gone
	open     func(context.Context) (net.Conn, error)
}

// once connects and says hello.
func (d *dialer) once(ctx context.Context) (*link, error) {
	conn, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	l, err := greet(ctx, conn)
	if err != nil {
		conn.Close()
	}
	return l, err
}

// again calls try until it works, for as long as that may still be and the patience lasts, with growing pauses of which
// the first is given. It gives the next pause, and why it has stopped: when lockerd did not come back, that is why it went.
func (d *dialer) again(ctx context.Context, why error, pause time.Duration, try func(context.Context) error) (time.Duration, error) {
	patient, stop := context.WithTimeout(ctx, d.patience)
	defer stop()
	for {
		if !rest(patient, pause) {
			if ctx.Err() != nil {
				why = fmt.Errorf("%w at %s: %w", ErrUnreachable, d.socket, ctx.Err())
			}
			return pause, why
		}
		pause = min(max(2*pause, shortestPause), longestPause)
		if err := try(patient); err == nil || !passes(err) {
			return pause, err
		}
	}
}

// rest sleeps, unless ctx ends before; false if it has ended.
func rest(ctx context.Context, pause time.Duration) bool {
	if pause > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// passes reports whether a failure to connect may be over soon: nobody listens yet, so many come back that some are sent away, or
// lockerd is short of descriptors or memory.
func passes(err error) bool {
	var refused *Error
	if errors.As(err, &refused) {
		return refused.Code == CodeLimit || refused.Code == CodeUnavailable
	}
	return errors.Is(err, ErrUnreachable)
}

// connect makes a connection to a lockerd that is to be trusted.
func (d *dialer) connect(ctx context.Context) (net.Conn, error) {
	conn, err := connect(ctx, d.socket)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, d.socket, cause(err))
	}
	uid, err := listener(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w at %s: ask the kernel who listens there: %w", ErrUntrusted, d.socket, err)
	}
	if !slices.Contains(d.trusted, uid) {
		conn.Close()
		return nil, &ForeignError{Socket: d.socket, UID: uid}
	}
	return conn, nil
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
