package broker

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

const (
	maxUnsent     = 4 + wire.MaxFrame // bytes waiting to be written to one client, length words included; one more closes it
	writeDeadline = 2 * time.Second   // patience with a client that reads nothing
)

// outbox sends frames to one client without ever blocking the sender: who grants a lock may be another client's
// goroutine, and a client that does not read must cost nobody but itself.
//
// A frame goes straight into the socket. What the socket does not take is kept, at most maxUnsent bytes, and written by
// a goroutine that exists only while something is kept; flush joins it.
type outbox struct {
	conn     *net.UnixConn
	raw      syscall.RawConn
	unsent   *atomic.Int64 // of the uid, bytes
	limit    func() int64  // of unsent, as of now
	patience time.Duration // for a client that reads nothing

	mu        sync.Mutex // guards the fields below; held across non-blocking writes only
	kept      []byte
	unwritten int           // bytes: kept, and those of it that the writer has taken and not yet written
	writer    chan struct{} // closed when the one who writes has ended; nil: nobody writes
	broken    bool

	frame []byte // for try, which RawConn.Write calls back: a field, so that no closure is made for each frame
	took  int
	err   error
	try   func(fd uintptr) bool
}

func (o *outbox) init(conn *net.UnixConn, unsent *atomic.Int64, limit func() int64, patience time.Duration) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	o.conn, o.raw, o.unsent, o.limit, o.patience = conn, raw, unsent, limit, patience
	o.try = func(fd uintptr) bool {
		for {
			// The socket is non-blocking. If the client is gone it is EPIPE: Go keeps SIGPIPE from all but stdout and stderr.
			o.took, o.err = unix.Write(int(fd), o.frame)
			if o.err != unix.EINTR {
				return true
			}
		}
	}
	return nil
}

// send takes a whole frame; it may be reused afterwards.
func (o *outbox) send(frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broken {
		return
	}
	if o.writer == nil {
		o.frame, o.took, o.err = frame, 0, nil
		// Cannot wait for another writer: there is none.
		if err := o.raw.Write(o.try); err != nil {
			o.breakOff()
			return
		}
		if o.err != nil && o.err != unix.EAGAIN {
			o.breakOff()
			return
		}
		if o.err == nil {
			frame = frame[o.took:]
		}
		if len(frame) == 0 {
			return
		}
	}
	if o.unwritten+len(frame) > maxUnsent || o.unsent.Load()+int64(len(frame)) > o.limit() {
		o.breakOff()
		return
	}
	o.kept = append(o.kept, frame...)
	o.unwritten += len(frame)
	o.unsent.Add(int64(len(frame)))
	if o.writer == nil {
		o.writer = make(chan struct{})
		go o.drain()
	}
}

// sendInTurn sends one frame of a long answer and returns when it is in the socket: for a session's own goroutine, which
// waits for its own slow reader. What others send meanwhile is kept as ever.
func (o *outbox) sendInTurn(frame []byte) {
	o.mu.Lock()
	for o.writer != nil {
		writer := o.writer
		o.mu.Unlock()
		<-writer // ends within patience of the last frame that the client took
		o.mu.Lock()
	}
	if o.broken {
		o.mu.Unlock()
		return
	}
	o.writer = make(chan struct{})
	o.mu.Unlock()
	o.write(frame)
	o.drain()
}

// behind reports whether the client has not taken all that was sent to it.
func (o *outbox) behind() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writer != nil
}

// breakOff closes the connection: the session's reader finds it closed and ends the session. The caller holds mu.
func (o *outbox) breakOff() {
	o.broken = true
	o.conn.Close()
}

// write is the writer's.
func (o *outbox) write(chunk []byte) {
	o.conn.SetWriteDeadline(time.Now().Add(o.patience))
	if _, err := o.conn.Write(chunk); err != nil {
		o.mu.Lock()
		o.breakOff()
		o.mu.Unlock()
	}
}

// drain writes what is kept until nothing is, or the client has not read for patience. It ends the writer.
func (o *outbox) drain() {
	for written := 0; ; {
		o.mu.Lock()
		o.unwritten -= written
		o.unsent.Add(-int64(written))
		chunk := o.kept
		o.kept = nil
		if len(chunk) == 0 || o.broken {
			o.unwritten -= len(chunk)
			o.unsent.Add(-int64(len(chunk)))
			o.conn.SetWriteDeadline(time.Time{}) // once it is over, RawConn.Write fails as well
			close(o.writer)
			o.writer = nil
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
		o.write(chunk)
		written = len(chunk)
	}
}

// flush waits until all that was kept is in the socket or the connection broken, or ctx is done.
func (o *outbox) flush(ctx context.Context) {
	o.mu.Lock()
	writer := o.writer
	o.mu.Unlock()
	if writer == nil {
		return
	}
	select {
	case <-writer:
	case <-ctx.Done():
	}
}
