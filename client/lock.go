package client

import (
	"context"
	"time"

	"locker/wire"
)

// settle is how long a Lock whose context has ended waits to hear whether it was granted in that moment. Should it
// not hear, the reader sees to it that a late grant is released.
const settle = 5 * time.Second

// Mode is Exclusive or Shared.
type Mode = wire.Mode

// The modes.
const (
	Exclusive = wire.Exclusive
	Shared    = wire.Shared
)

// Queue is where a waiting Lock stands: its position (1 is next; the worst over its paths) and at most 8 blockers.
type Queue = wire.Queued

// Request says what to lock and how. Only Paths is needed.
type Request struct {
	Paths   []string      // 1 to 64, absolute and clean; granted all or none
	Mode    Mode          // 0 is Exclusive
	Idle    bool          // exclusive only, and only while nobody else has the files open; asked for of a sparsebundle anyway
	Timeout time.Duration // wait at most so long, by lockerd's clock; 0: as long as the context
	NoWait  bool          // do not wait at all
	Reason  string        // at most 256 bytes; shown to whom it keeps waiting, and in the audit log

	Detached bool          // the lock outlives the client, until it is unlocked, broken or its TTL ends
	TTL      time.Duration // Detached only; 0: none
	Tag      string        // Detached only: the owner is the user and this tag. At most 64 bytes

	// Grace is the time between a Loss and the next holder, for the end of what we are doing; unlock as soon as it has
	// ended. Attached only, at most 30 s.
	Grace time.Duration

	// OnQueued, if set, hears when the lock has to wait, and whenever lockerd says anew for what; in the goroutine that
	// called Lock. Refresh, if not 0, asks for that again and again.
	OnQueued func(Queue)
	Refresh  time.Duration
}

// message puts the request in wire's words.
func (r *Request) message() (*wire.Lock, error) {
	m := &wire.Lock{
		Mode: r.Mode, Wait: wire.Block, Timeout: r.Timeout, Life: wire.Attached,
		TTL: r.TTL, Grace: r.Grace, Tag: r.Tag, Reason: r.Reason, Paths: r.Paths,
	}
	if m.Mode == 0 {
		m.Mode = wire.Exclusive
	}
	switch {
	case !r.Idle:
	case m.Mode == wire.Exclusive:
		m.Mode = wire.Idle
	default:
		return nil, &Error{Code: CodeInvalid, Text: "a shared lock cannot ask for a file that nobody has open"}
	}
	if r.Detached {
		m.Life = wire.Detached
	}
	switch {
	case r.NoWait && r.Timeout != 0:
		return nil, &Error{Code: CodeInvalid, Text: "a request either does not wait or has a timeout"}
	case r.NoWait:
		m.Wait = wire.NonBlock
	case r.Timeout < 0:
		return nil, &Error{Code: CodeInvalid, Text: "the timeout is negative"}
	case r.Timeout > 0:
		m.Wait = wire.Timed
	}
	return m, nil
}

// Lock waits for the lock, unless the request says otherwise. It returns an *Error when lockerd refuses, and the
// context's error when that ends first; then the claim has left the queue, and a grant that was under way is
// released again.
//
// The owner of a detached lock that asks for it again gets it again, with the same token (Hold.Already); so does a
// Client that asks for its own attached lock.
func (c *Client) Lock(ctx context.Context, req Request) (*Lock, error) {
	m, err := req.message()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k := newCall()
	k.request = &req
	if err := c.send(k, m); err != nil {
		return nil, err
	}
	var ask asking
	defer ask.stop(c)
	for {
		select {
		case a := <-k.answer:
			return k.outcome(a)
		case q := <-k.news:
			if q, ok := q.(*wire.Queued); ok && req.OnQueued != nil {
				req.OnQueued(*q)
			}
			ask.start(req.Refresh)
		case <-ask.tick:
			ask.again(c, k)
		case <-c.done:
			a, err := c.afterEnd(k)
			if err != nil {
				return nil, err
			}
			return k.outcome(a)
		case <-ctx.Done():
			c.giveUp(ctx, k)
			return nil, ctx.Err()
		}
	}
}

// tooOld is the answer to what this lockerd would not understand.
func tooOld() *wire.Error {
	return &wire.Error{Code: wire.CodeUnsupported, Text: "this lockerd is too old to ask whether others have a file open"}
}

// outcome reads the final answer of a Lock.
func (k *call) outcome(a wire.Message) (*Lock, error) {
	switch a := a.(type) {
	case *wire.Granted:
		return k.lock, nil
	case *wire.Error:
		return nil, refusal(a)
	default:
		return nil, unexpected(a)
	}
}

// giveUp takes a claim back whose context has ended. A grant may be on its way, or made without our hearing of it: Cancel
// is worked on after the Lock, whose answer says which of the two happened. What is granted, the reader gives back.
func (c *Client) giveUp(ctx context.Context, k *call) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer stop()
	if !c.leave(k) {
		return
	}
	select {
	case <-k.answer:
	case <-c.done:
		return
	case <-ctx.Done():
		return
	}
	c.mu.Lock()
	l := k.lock
	c.mu.Unlock()
	if l == nil {
		return
	}
	select {
	case <-l.returned:
	case <-c.done:
	case <-ctx.Done():
	}
}

// leave has a Lock leave its queue, or give back what it was granted; false if there is nothing to wait for.
func (c *Client) leave(k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.left = true
	switch {
	case c.err != nil:
		return false
	case k.lock != nil: // granted in this very moment
		c.giveBack(k.lock)
		return true
	case c.calls[k.id] != k: // refused in this very moment
		return false
	case !k.sent:
		c.drop(k)
		return false
	}
	return c.dismiss(k) == nil
}

// dismiss sends a Cancel, whose answer nobody needs. Should the connection break, it is sent again behind its target. The
// caller holds mu.
func (c *Client) dismiss(target *call) error {
	return c.enter(newCall(), &wire.Cancel{Target: target.id})
}

// asking is the repeated question where a Lock stands.
type asking struct {
	ticker *time.Ticker
	tick   <-chan time.Time
	open   *call // the latest Where
}

// start begins to ask, once.
func (a *asking) start(every time.Duration) {
	if a.ticker == nil && every > 0 {
		a.ticker = time.NewTicker(every)
		a.tick = a.ticker.C
	}
}

// again asks, unless the last question is unanswered yet.
func (a *asking) again(c *Client, target *call) {
	if a.open != nil && c.waitsFor(a.open) {
		return
	}
	a.open = newCall()
	a.open.of = target
	c.send(a.open, &wire.Where{Target: target.id}) // if the client has ended, c.done says so to the caller's loop
}

func (a *asking) stop(c *Client) {
	if a.ticker != nil {
		a.ticker.Stop()
	}
	if a.open != nil {
		c.forget(a.open)
	}
}
