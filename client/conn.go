package client

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"locker/wire"
)

const (
	readBuffer = 1 << 10         // bytes; an answer is rarely longer
	lastWords  = 1 * time.Second // how long a failed write waits for what lockerd had to say
)

// Client is a connection to lockerd. Its methods may be called from many goroutines at once.
type Client struct {
	conn    net.Conn
	in      *bufio.Reader // of the reader, once it runs
	welcome Welcome
	work    sync.WaitGroup // the reader, and releases of grants that came too late
	done    chan struct{}  // closed when the connection has ended; err is set then

	// write holds a token while somebody writes; a channel, so that waiting for one's turn can end with a context.
	write chan struct{}
	frame []byte // of whoever has the token

	mu     sync.Mutex            // guards the fields below; never held across a read, a write or a callback
	last   uint32                // request id given out last
	calls  map[uint32]*call      // that wait for their final answer
	holds  map[uint64][]*Lock    // by id, that may still be lost
	early  map[uint64]*wire.Lost // by id, that came before the grant
	closed bool                  // Close was called
	err    error                 // why the connection ended
}

// call is a request that waits for its final answer.
type call struct {
	answer  chan wire.Message // the final answer; of capacity 1 and sent to once, so the reader cannot block
	news    chan wire.Message // the latest Queued or Changed, capacity 1
	of      *call             // a Where: the Lock that it asks about
	request *Request          // a Lock
	lock    *Lock             // of a granted Lock: made by the reader, so that a Lost right behind the grant finds it
	left    bool              // a Lock that nobody waits for any more: release what it is granted. Guarded by Client.mu
	rows    []Row             // of a List so far; the reader's until the answer
}

func newCall() *call {
	return &call{answer: make(chan wire.Message, 1), news: make(chan wire.Message, 1)}
}

// report leaves news for the call, in place of older news that was not fetched. Only the reader sends, under
// Client.mu, so that after the fetch there is room.
func (k *call) report(m wire.Message) {
	select {
	case <-k.news:
	default:
	}
	k.news <- m
}

// Welcome gives what lockerd said of itself.
func (c *Client) Welcome() Welcome { return c.welcome }

// Close ends the connection and with it every attached lock, and returns when no goroutine of the client is left.
// The Lost channels of its locks are closed without a Loss.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.conn.Close()
	c.work.Wait()
	return err
}

// begin gives the call a request id and enters it.
func (c *Client) begin(k *call) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	for {
		c.last++
		if _, taken := c.calls[c.last]; c.last != 0 && !taken { // 0 is for events
			break
		}
	}
	c.calls[c.last] = k
	return c.last, nil
}

// forget drops a call: its answer, should one come, is thrown away.
func (c *Client) forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

// send writes one frame. An error of ctx means that nothing was sent, or that the connection was given up in the
// middle of the frame.
func (c *Client) send(ctx context.Context, id uint32, m wire.Message) error {
	select {
	case c.write <- struct{}{}:
	case <-c.done:
		return c.failure()
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.write }()
	frame, err := wire.Append(c.frame[:0], id, m)
	if err != nil {
		return &Error{Code: CodeInvalid, Text: err.Error()}
	}
	c.frame = frame
	stop := interrupt(ctx, c.conn.SetWriteDeadline)
	n, err := c.conn.Write(frame)
	stop()
	switch {
	case err == nil:
		return nil
	case n == 0 && ctx.Err() != nil:
		return ctx.Err()
	case ctx.Err() != nil:
		c.conn.Close() // half a frame is out: what follows could not be read
		return ctx.Err()
	}
	// The other end has gone; it may have said why before it went.
	c.conn.SetReadDeadline(time.Now().Add(lastWords))
	<-c.done
	return c.failure()
}

// failure says why the connection has ended.
func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ask sends a request and waits for its final answer.
func (c *Client) ask(ctx context.Context, m wire.Message) (wire.Message, error) {
	k := newCall()
	return c.askFor(ctx, k, m)
}

func (c *Client) askFor(ctx context.Context, k *call, m wire.Message) (wire.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, err := c.begin(k)
	if err != nil {
		return nil, err
	}
	if err := c.send(ctx, id, m); err != nil {
		c.forget(id)
		return nil, err
	}
	select {
	case a := <-k.answer:
		return final(a)
	case <-c.done:
		return c.afterEnd(k)
	case <-ctx.Done():
		c.forget(id)
		return nil, ctx.Err()
	}
}

// afterEnd gives the answer that came just before the connection ended, or why it ended.
func (c *Client) afterEnd(k *call) (wire.Message, error) {
	select {
	case a := <-k.answer:
		return final(a)
	default:
		return nil, c.failure()
	}
}

// final turns an Error frame into an error.
func final(m wire.Message) (wire.Message, error) {
	if e, ok := m.(*wire.Error); ok {
		return nil, refusal(e)
	}
	return m, nil
}

// read is the one goroutine that reads from the connection; it ends with it.
func (c *Client) read() {
	var buf []byte
	for {
		body, err := wire.ReadFrame(c.in, buf)
		if err != nil {
			c.end(fmt.Errorf("%w: %w", ErrUnreachable, ended(err)))
			return
		}
		buf = body[:0]
		id, m, err := wire.Parse(body)
		if err == nil {
			err = c.dispatch(id, m)
		} else {
			err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

// dispatch hands one frame to whom it concerns; an error ends the connection.
func (c *Client) dispatch(id uint32, m wire.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		switch m := m.(type) {
		case *wire.Lost:
			c.lose(m)
			return nil
		case *wire.Error: // about the connection as a whole: its last frame
			return refusal(m)
		}
		return unexpected(m)
	}
	k := c.calls[id]
	if k == nil {
		return nil // the answer to a Cancel, or to a request whose context has ended
	}
	switch m := m.(type) {
	case *wire.Queued:
		if k.of != nil {
			delete(c.calls, id)
			k = k.of
		}
		k.report(m)
		return nil
	case *wire.Changed:
		k.report(m)
		return nil
	case *wire.Rows:
		k.rows = append(k.rows, m.Rows...)
		if m.More {
			return nil
		}
	case *wire.Granted:
		if err := c.granted(k, m); err != nil {
			return err
		}
	}
	delete(c.calls, id)
	k.answer <- m
	return nil
}

// end closes the connection and tells everybody that it is gone.
func (c *Client) end(err error) {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		err = ErrClosed
	}
	c.err = err
	c.loseAll(err)
	clear(c.calls)
	close(c.done)
}
