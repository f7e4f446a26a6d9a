package client

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"locker/wire"
)

// How a session outlives its connection: "A connection that breaks" of package wire. Everybody who waits goes on waiting
// meanwhile, and what they ask for is put into the queue.

const (
	patience      = 30 * time.Second       // for lockerd to come back: it keeps our session for so long
	shortestPause = 1 * time.Millisecond   // between two attempts;
	longestPause  = 100 * time.Millisecond // it doubles from one to the other
)

// errNotKept is why a hold is lost that is not among those of the session as lockerd gives it back, or whose session is no more. Why that
// is so is not known here: lockerd need not have been restarted.
var errNotKept = &Error{Code: CodeLost, Text: "lockerd did not keep the lock"}

// serve is the one goroutine that looks after the connection, l at first, and after its successors.
func (c *Client) serve(ctx context.Context, l *link) {
	var pause time.Duration
	for {
		began := time.Now()
		err := c.talk(l)
		if !c.resumable(err) {
			c.end(err)
			return
		}
		if l.heard || time.Since(began) > longestPause {
			pause = 0 // else lockerd dies as soon as it is back: no busy loop
		}
		pause, err = c.redial.again(ctx, err, pause, func(ctx context.Context) (err error) {
			l, err = c.comeBack(ctx)
			return err
		})
		if err != nil {
			c.end(err)
			return
		}
	}
}

// resumable reports whether the session goes on although its connection ended with err: lockerd has just gone, and has not
// said that it means it.
func (c *Client) resumable(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(err, errHungUp) && c.redial != nil && c.welcome.Version >= 2 && !c.leaving && !c.closed
}

// comeBack connects again and takes the session up, or begins another.
func (c *Client) comeBack(ctx context.Context) (*link, error) {
	l, err := c.redial.once(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.resume(ctx, l); err != nil {
		l.conn.Close()
		return nil, err
	}
	return l, nil
}

func (c *Client) resume(ctx context.Context, l *link) error {
	session := c.session()
	if session == 0 || l.welcome.Version < 2 {
		return c.adopt(l, nil)
	}
	m, err := l.exchange(ctx, &wire.Resume{Session: session})
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.Resumed:
		l.welcome.Session = session
		return c.adopt(l, m)
	case *wire.Error:
		if m.Code == wire.CodeLost {
			return c.adopt(l, nil)
		}
		return refusal(m)
	}
	return unexpected(m)
}

// session gives the number of the session if lockerd may keep something for it, else 0.
func (c *Client) session() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding {
		return c.welcome.Session
	}
	for _, k := range c.calls {
		if k.request != nil && k.sent {
			return c.welcome.Session
		}
	}
	return 0
}

// adopt makes l the client's connection: of its session if lockerd has resumed it, else (nil) of another.
func (c *Client) adopt(l *link, resumed *wire.Resumed) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed // Close did not see this connection
	}
	c.welcome = l.welcome
	var kept []uint64
	if resumed != nil {
		kept = resumed.IDs
	} else {
		c.holding = false
	}
	c.loseAllBut(kept)
	c.queue = nil
	for _, k := range slices.SortedFunc(maps.Values(c.calls), func(a, b *call) int { return cmp.Compare(a.turn, b.turn) }) {
		if a := k.repeat(resumed != nil, l.welcome.Version); a != nil {
			c.drop(k)
			k.answer <- a
			continue
		}
		c.queue = append(c.queue, k)
	}
	c.link = l // whose writer has not begun
	return nil
}

// repeat prepares a call for being sent again, in this version, or gives the answer to one that must not be. The caller holds mu.
func (k *call) repeat(resumed bool, version uint8) wire.Message {
	k.rows, k.altered, k.quiets = nil, nil, nil
	k.again = k.sent
	if version < wire.Needed(k.asked) {
		return tooOld() // the one before was newer
	}
	switch m := k.asked.(type) {
	case *wire.Lock:
		if k.left && !resumed {
			return &wire.Error{Code: wire.CodeCanceled} // it stood in a queue of the session that is no more
		}
		if m.Wait == wire.Timed {
			rest := *m
			rest.Timeout = max(0, m.Timeout-time.Since(k.began))
			if frame, err := wire.Append(nil, k.id, &rest); err == nil { // as it was once, with a lesser number
				k.frame = frame
			}
		}
	case *wire.Watch:
		k.report(&wire.Changed{}) // nobody has told of what changed meanwhile
	case *wire.Break:
		if k.sent && m.By == wire.ByPath { // it would break the next owner's too
			return &wire.Error{Code: wire.CodeShutdown, Path: m.Path, Text: "the connection broke before lockerd answered; the lock may be broken or not"}
		}
	}
	return nil
}

// loseAllBut tells the attached locks that lockerd has not kept. The caller holds mu.
func (c *Client) loseAllBut(kept []uint64) {
	for id, locks := range c.holds {
		if _, found := slices.BinarySearch(kept, id); found {
			continue
		}
		for _, l := range slices.Clone(locks) {
			switch {
			case !l.attached:
			case c.unlocking(id, l):
				c.settled(id, l) // by us: only the answer did not come through
			default:
				l.lose(Loss{Token: id, Cause: Disconnected, Err: errNotKept})
			}
		}
	}
}

// unlocking reports whether lockerd may have read an Unlock of this hold that it has not answered. The caller holds mu.
func (c *Client) unlocking(id uint64, l *Lock) bool {
	for _, k := range c.calls {
		m, ok := k.asked.(*wire.Unlock)
		if ok && k.sent && (m.ID == id || slices.ContainsFunc(l.holds, func(h Hold) bool { return h.Token == id && slices.Contains(m.Paths, h.Path) })) {
			return true
		}
	}
	return false
}
