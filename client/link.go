package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"locker/wire"
)

const (
	readBuffer = 1 << 10         // bytes; an answer is rarely longer
	lastWords  = 1 * time.Second // how long after a failed write lockerd may still say why

	// greeting is the request id of Hello and Resume, and of nothing else: what is sent again behind them keeps its id.
	greeting = 1
)

// link is one connection to lockerd. A Client has one after the other.
type link struct {
	conn    net.Conn
	in      *bufio.Reader
	welcome Welcome
	more    chan struct{} // of capacity 1: holds a token when there may be something to write
	down    chan struct{} // closed when nothing more is read
	heard   bool          // lockerd has said something since; of the goroutine that serves the link
}

// greet exchanges Hello and Welcome on a connection, which stays the caller's if that fails.
func greet(ctx context.Context, conn net.Conn) (*link, error) {
	l := &link{conn: conn, in: bufio.NewReaderSize(conn, readBuffer), more: make(chan struct{}, 1), down: make(chan struct{})}
	m, err := l.exchange(ctx, &wire.Hello{Min: wire.FirstVersion, Max: wire.Version})
	if err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *wire.Welcome:
		if m.Version < wire.FirstVersion || m.Version > wire.Version {
			return nil, &Error{Code: wire.CodeVersion, Text: fmt.Sprintf("lockerd chose version %d of the protocol, which we did not offer", m.Version)}
		}
		l.welcome = *m
		return l, nil
	case *wire.Error:
		return nil, refusal(m)
	}
	return nil, unexpected(m)
}

// exchange sends the first or the second message of a connection and gives what comes back.
func (l *link) exchange(ctx context.Context, m wire.Message) (wire.Message, error) {
	stop := interrupt(ctx, l.conn.SetDeadline)
	defer stop()
	frame, err := wire.Append(nil, greeting, m)
	if err != nil {
		return nil, err
	}
	// A lockerd at its limit says so and closes without reading: the error frame is worth more than our EPIPE.
	_, sent := l.conn.Write(frame)
	body, err := wire.ReadFrame(l.in, nil)
	if err == nil {
		_, m, err := wire.Parse(body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		return m, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: no answer: %w", ErrUnreachable, ctx.Err())
	}
	if sent != nil {
		err = sent
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, ended(err))
}

// wake has the writer look into the queue. There is one token, so that this cannot block: who takes it sees all that was
// put into the queue before.
func (l *link) wake() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// talk reads from and writes to the link until it ends, and says why it did.
func (c *Client) talk(l *link) error {
	var writer sync.WaitGroup
	writer.Go(func() { c.write(l) })
	err := c.read(l)
	c.mu.Lock()
	c.link = nil
	c.mu.Unlock()
	l.conn.Close() // a write that blocks ends now
	close(l.down)
	writer.Wait()
	return err
}

func (c *Client) read(l *link) error {
	var buf []byte
	for {
		body, err := wire.ReadFrame(l.in, buf)
		if errors.Is(err, wire.ErrFrameSize) {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, ended(err))
		}
		buf = body[:0]
		id, m, err := wire.Parse(body)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		l.heard = true
		if err := c.dispatch(id, m); err != nil {
			return err
		}
	}
}

// write writes what is in the queue, until the link is down. It has a goroutine of its own, so that nobody whose context
// ends leaves half a frame behind.
func (c *Client) write(l *link) {
	var out []byte
	for {
		if out = c.next(out[:0]); len(out) == 0 {
			select {
			case <-l.more:
				continue
			case <-l.down:
				return
			}
		}
		if _, err := l.conn.Write(out); err != nil {
			l.conn.SetReadDeadline(time.Now().Add(lastWords))
			return // the reader finds the last words, or the end
		}
	}
}

// next appends what is in the queue to out, except for what nobody asks for any more.
func (c *Client) next(out []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.queue {
		if c.calls[k.id] == k {
			k.sent = true
			out = append(out, k.frame...)
		}
	}
	c.queue = c.queue[:0]
	return out
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
