package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"locker/wire"
)

// Client is a session with lockerd. Its methods may be called from many goroutines at once.
type Client struct {
	redial *dialer            // nil: cannot connect again
	hangUp context.CancelFunc // ends the attempts to connect again
	work   sync.WaitGroup     // what serves the connection, and releases of grants that came too late
	done   chan struct{}      // closed when the client has ended; err is set then

	mu      sync.Mutex                 // guards the fields below; never held across a read, a write or a callback
	link    *link                      // the connection; nil while there is none
	welcome Welcome                    // of the session
	holding bool                       // the session has been granted an attached lock, perhaps long ago
	leaving bool                       // lockerd has said that it goes away for good
	last    uint32                     // request id given out last
	turn    uint64                     // of the latest call
	calls   map[uint32]*call           // that wait for their final answer, by request id
	queue   []*call                    // to be written, in the order of their turns
	holds   map[uint64][]*Lock         // by id, that may still be lost
	early   map[uint64]*wire.Lost      // by id, that came before the grant
	soon    map[uint64]wire.Alteration // the same
	closed  bool                       // Close was called
	err     error                      // why the client has ended
}

// call is a request that waits for its final answer.
type call struct {
	answer  chan wire.Message          // the final answer; of capacity 1 and sent to once, so the reader cannot block
	news    chan wire.Message          // the latest Queued or Changed, capacity 1
	of      *call                      // a Where: the Lock that it asks about
	request *Request                   // a Lock
	rows    []Row                      // of a List so far; the reader's until the answer
	altered map[uint64]wire.Alteration // of a List, by id: what comes before its rows
	quiets  []time.Duration            // of a Rules: what comes before its reply; the reader's until the answer

	// Guarded by Client.mu.
	id    uint32
	turn  uint64
	began time.Time
	asked wire.Message
	frame []byte // asked, encoded
	sent  bool   // lockerd may have read it
	again bool   // lockerd may have read it twice
	lock  *Lock  // of a granted Lock: made by the reader, so that a Lost right behind the grant finds it
	left  bool   // a Lock that nobody waits for any more: release what it is granted
}

func newCall() *call {
	return &call{answer: make(chan wire.Message, 1), news: make(chan wire.Message, 1)}
}

// report leaves news for the call, in place of older news that was not fetched. Only the goroutine that serves the
// connection sends, under Client.mu, so that after the fetch there is room.
func (k *call) report(m wire.Message) {
	select {
	case <-k.news:
	default:
	}
	k.news <- m
}

// Welcome gives what lockerd said of itself, most recently.
func (c *Client) Welcome() Welcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.welcome
}

// Close ends the session and with it every attached lock, and returns when no goroutine of the client is left.
// The Lost channels of its locks are closed without a Loss.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	l := c.link
	c.mu.Unlock()
	c.hangUp()
	var err error
	if l != nil {
		if err = l.conn.Close(); errors.Is(err, net.ErrClosed) {
			err = nil // it has ended in this moment
		}
	}
	c.work.Wait()
	return err
}

// send gives the call a request id and enters it. It is written at once, or, while lockerd is away, when it is back.
func (c *Client) send(k *call, m wire.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enter(k, m)
}

// enter is send for a caller who holds mu.
func (c *Client) enter(k *call, m wire.Message) error {
	if c.err != nil {
		return c.err
	}
	// Under mu: else an older lockerd may take the place of this one in between, to which the frame is none, and hangs up.
	if c.welcome.Version < wire.Needed(m) {
		return refusal(tooOld())
	}
	for {
		c.last++
		if _, taken := c.calls[c.last]; c.last > greeting && !taken { // 0 is for events
			break
		}
	}
	frame, err := wire.Append(nil, c.last, m)
	if err != nil {
		return &Error{Code: CodeInvalid, Text: err.Error()}
	}
	c.turn++
	k.id, k.turn, k.began, k.asked, k.frame = c.last, c.turn, time.Now(), m, frame
	c.calls[k.id] = k
	c.queue = append(c.queue, k)
	if c.link != nil {
		c.link.wake()
	}
	return nil
}

// forget drops a call: it is not sent any more, and its answer, should one come, is thrown away.
func (c *Client) forget(k *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(k)
}

// drop is forget for a caller who holds mu. A call that was answered has perhaps left its number to another.
func (c *Client) drop(k *call) {
	if c.calls[k.id] == k {
		delete(c.calls, k.id)
	}
}

// waitsFor reports whether the call is unanswered.
func (c *Client) waitsFor(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[k.id] == k
}

// failure says why the client has ended.
func (c *Client) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ask sends a request and waits for its final answer.
func (c *Client) ask(ctx context.Context, m wire.Message) (wire.Message, error) {
	return c.askFor(ctx, newCall(), m)
}

func (c *Client) askFor(ctx context.Context, k *call, m wire.Message) (wire.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.send(k, m); err != nil {
		return nil, err
	}
	select {
	case a := <-k.answer:
		return final(a)
	case <-c.done:
		return c.afterEnd(k)
	case <-ctx.Done():
		c.forget(k)
		return nil, ctx.Err()
	}
}

// afterEnd gives the answer that came just before the client ended, or why it ended.
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

// dispatch hands one frame to whom it concerns; an error ends the client.
func (c *Client) dispatch(id uint32, m wire.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m := m.(type) {
	case *wire.Lost:
		c.leaving = c.leaving || m.Cause == wire.Stopped
		c.lose(m)
		return nil
	case *wire.Altered:
		if id == 0 {
			c.alter(m)
			return nil
		}
	case *wire.Error:
		if id == 0 { // about the connection as a whole: its last frame
			return refusal(m)
		}
		c.leaving = c.leaving || m.Code == wire.CodeShutdown
	}
	if id == 0 {
		return unexpected(m)
	}
	k := c.calls[id]
	if k == nil {
		return nil // the answer to a request whose context has ended, or the second to one that was sent twice
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
	case *wire.Altered:
		k.note(m)
		return nil
	case *wire.Quiets:
		k.quiets = m.Quiets
		return nil
	case *wire.Rows:
		k.listed(m.Rows)
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

// end tells everybody that the client is at its end.
func (c *Client) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		err = ErrClosed
	}
	c.err = err
	c.loseAll(err)
	clear(c.calls)
	c.queue = nil
	close(c.done)
}
