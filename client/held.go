package client

import (
	"context"
	"slices"
	"time"

	"locker/wire"
)

// Rest is the set of things that a lock rests on; Names gives their words.
type Rest = wire.Rest

// The members of a Rest.
const (
	RestOFD   = wire.RestOFD
	RestFlock = wire.RestFlock
	RestIdle  = wire.RestIdle
	RestGuard = wire.RestGuard
)

// Hold is one file of a Lock.
type Hold struct {
	Path    string
	Token   uint64    // the fencing token, which is also the hold's id
	Already bool      // its owner held it before this request
	Rests   Rest      // which locks of the kernel were taken
	Expires time.Time // zero: never
}

// Lock is a granted request.
type Lock struct {
	c        *Client
	attached bool
	holds    []Hold   // in the order of Request.Paths
	ids      []uint64 // distinct

	returned chan struct{} // closed when giveBack has done its work; nil if nobody asked for that

	lost    chan Loss       // of capacity len(ids), each of which is lost at most once: sending cannot block
	altered chan Alteration // of capacity len(ids); of each the newest is in it

	// Guarded by Client.mu.
	heard map[uint64]wire.Alteration // that were told, the newest of each id
	live  []uint64                   // ids that have neither been lost nor released
	gone  []uint64                   // ids that were lost
	over  bool                       // released
}

// granted makes the Lock of an answer. The caller (the reader) holds mu.
func (c *Client) granted(k *call, m *wire.Granted) error {
	if k.request == nil || len(m.Grants) != len(k.request.Paths) {
		return unexpected(m)
	}
	l := &Lock{c: c, attached: !k.request.Detached, holds: make([]Hold, len(m.Grants))}
	for i, g := range m.Grants {
		l.holds[i] = Hold{Path: k.request.Paths[i], Token: g.ID, Already: g.Already, Rests: g.Rests, Expires: g.Expires}
		if !slices.Contains(l.ids, g.ID) {
			l.ids = append(l.ids, g.ID)
			c.holds[g.ID] = append(c.holds[g.ID], l)
		}
	}
	l.live = slices.Clone(l.ids)
	l.lost, l.altered = make(chan Loss, len(l.ids)), make(chan Alteration, len(l.ids))
	c.holding = c.holding || l.attached
	k.lock = l
	for _, id := range l.ids {
		if a, ok := c.soon[id]; ok {
			delete(c.soon, id)
			c.alter(&wire.Altered{Alterations: []wire.Alteration{a}})
		}
		if m := c.early[id]; m != nil {
			delete(c.early, id)
			c.lose(m)
		}
	}
	if k.left {
		c.giveBack(l)
	}
	return nil
}

// Holds gives the lock's files, in the order of Request.Paths.
func (l *Lock) Holds() []Hold { return slices.Clone(l.holds) }

// Token gives the fencing token: of several, the greatest.
func (l *Lock) Token() uint64 { return slices.Max(l.ids) }

// Tokens gives the fencing token of each path, in the order of Request.Paths.
func (l *Lock) Tokens() []uint64 {
	tokens := make([]uint64, len(l.holds))
	for i, h := range l.holds {
		tokens[i] = h.Token
	}
	return tokens
}

// Rests gives what every file of the lock rests on.
func (l *Lock) Rests() Rest {
	all := l.holds[0].Rests
	for _, h := range l.holds[1:] {
		all &= h.Rests
	}
	return all
}

// Unlock releases the lock. A lock of which some was lost is released too: that is how to say, within the grace of
// the Loss, that we have stopped. A second Unlock does nothing.
//
// It returns an *Error with CodeLost if some of a detached lock had ended before, without a Loss having told us.
func (l *Lock) Unlock(ctx context.Context) error {
	l.c.mu.Lock()
	over := l.over
	l.c.mu.Unlock()
	if over {
		return nil
	}
	if err := l.release(ctx, l.ids); err != nil {
		return err
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	l.over = true
	return nil
}

// release releases these ids of the lock: all the requests first, then all the answers.
func (l *Lock) release(ctx context.Context, ids []uint64) error {
	results := make(chan error, len(ids))
	if len(ids) == 1 {
		return l.releaseOne(ctx, ids[0])
	}
	for _, id := range ids {
		go func() { results <- l.releaseOne(ctx, id) }()
	}
	var first error
	for range ids {
		if err := <-results; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (l *Lock) releaseOne(ctx context.Context, id uint64) error {
	found, err := l.c.UnlockID(ctx, id)
	if err != nil || found {
		return err
	}
	l.c.mu.Lock()
	lost := slices.Contains(l.gone, id)
	l.c.mu.Unlock()
	if lost {
		return nil
	}
	i := slices.IndexFunc(l.holds, func(h Hold) bool { return h.Token == id })
	return &Error{Code: CodeLost, Path: l.holds[i].Path, Text: "the lock had ended before it was released"}
}

// giveBack has a lock released that came too late. The caller holds mu, and the client has not ended: the goroutine that
// serves the connection is part of work, so that the count is not 0 when Close waits for it.
func (c *Client) giveBack(l *Lock) {
	l.returned = make(chan struct{})
	c.work.Go(func() {
		defer close(l.returned)
		l.giveBack()
	})
}

// giveBack releases what the request got beyond what its owner held before, however long lockerd is away. An error has
// nobody to go to: the client has ended, and attached locks with it.
func (l *Lock) giveBack() {
	var fresh []uint64
	for _, h := range l.holds {
		if !h.Already && !slices.Contains(fresh, h.Token) {
			fresh = append(fresh, h.Token)
		}
	}
	l.release(context.Background(), fresh)
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	for _, id := range l.ids {
		l.c.settled(id, l)
	}
}
