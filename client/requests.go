package client

import (
	"context"
	"slices"
	"time"

	"locker/wire"
)

// Row is a holder, a waiter, a lost lock, or one outside lockerd that a waiter waits for, as List tells of it.
type Row struct {
	wire.Row
	Altered wire.Alteration // what has become of its files while it was held; zero: nothing that is known
}

// Status is the state of lockerd.
type Status = wire.StatusReply

// GuardState says whether opens by file servers are refused below held bundles; its zero value means that lockerd is too old to say.
type GuardState = wire.GuardState

const (
	GuardOff  = wire.GuardOff  // the policy denies nobody
	GuardOn   = wire.GuardOn   // refused
	GuardDown = wire.GuardDown // not refused, though the policy says so
)

// Limit is one of the limits in a Status.
type Limit = wire.Limit

// Allowance is something that we may lock.
type Allowance struct {
	wire.Allowance
	Quiet time.Duration // for so long nothing below a sparsebundle must have been written; 0: that is not asked, or lockerd is too old to say
}

// Explanation says what the policy decides and why.
type Explanation = wire.Explained

// UnlockPaths releases our locks on these paths: those of this Client, and the detached ones under tag. It gives the id
// of each, in order; 0 means that it was not locked.
func (c *Client) UnlockPaths(ctx context.Context, tag string, paths ...string) ([]uint64, error) {
	return c.unlock(ctx, &wire.Unlock{By: wire.ByPath, Tag: tag, Paths: paths})
}

// UnlockID releases our lock with this id, and reports whether there was one.
func (c *Client) UnlockID(ctx context.Context, id uint64) (bool, error) {
	ids, err := c.unlock(ctx, &wire.Unlock{By: wire.ByID, ID: id})
	if CodeOf(err) == CodeNotFound {
		err = nil
	}
	return slices.Contains(ids, id), err
}

// UnlockAll releases all our detached locks, whatever their tag, and gives their ids.
func (c *Client) UnlockAll(ctx context.Context) ([]uint64, error) {
	return c.unlock(ctx, &wire.Unlock{By: wire.ByAll, AnyTag: true})
}

// UnlockTag releases all our detached locks with this tag, and gives their ids.
func (c *Client) UnlockTag(ctx context.Context, tag string) ([]uint64, error) {
	return c.unlock(ctx, &wire.Unlock{By: wire.ByAll, Tag: tag})
}

func (c *Client) unlock(ctx context.Context, m *wire.Unlock) ([]uint64, error) {
	k := newCall()
	ids, err := c.released(c.askFor(ctx, k, m))
	c.mu.Lock()
	defer c.mu.Unlock()
	none := len(ids) == 0 && err == nil || CodeOf(err) == CodeNotFound
	if none && m.By == wire.ByID && k.again {
		ids, err = []uint64{m.ID}, nil // it was released when lockerd read this for the first time, and could not say so
	}
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		for _, l := range slices.Clone(c.holds[id]) {
			c.settled(id, l)
		}
	}
	return ids, nil
}

// BreakPath takes somebody's lock on path away, which the policy must allow, and gives the ids of what was broken. An
// error with CodeShutdown means that the connection broke in that moment, and that it may have been broken or not.
func (c *Client) BreakPath(ctx context.Context, path, reason string) ([]uint64, error) {
	return c.released(c.ask(ctx, &wire.Break{By: wire.ByPath, Path: path, Reason: reason}))
}

// BreakID takes the lock with this id away from its owner.
func (c *Client) BreakID(ctx context.Context, id uint64, reason string) ([]uint64, error) {
	return c.released(c.ask(ctx, &wire.Break{By: wire.ByID, ID: id, Reason: reason}))
}

func (c *Client) released(m wire.Message, err error) ([]uint64, error) {
	if err != nil {
		return nil, err
	}
	a, ok := m.(*wire.Released)
	if !ok {
		return nil, unexpected(m)
	}
	return a.IDs, nil
}

// List gives our holders, waiters and lost locks, and who is in our way outside lockerd; with all, everybody's that the
// policy lets us see.
func (c *Client) List(ctx context.Context, all bool) ([]Row, error) {
	k := newCall()
	m, err := c.askFor(ctx, k, &wire.List{All: all})
	if err != nil {
		return nil, err
	}
	if _, ok := m.(*wire.Rows); !ok {
		return nil, unexpected(m)
	}
	return k.rows, nil
}

// Status asks how lockerd is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	m, err := c.ask(ctx, &wire.Status{})
	if err != nil {
		return nil, err
	}
	a, ok := m.(*wire.StatusReply)
	if !ok {
		return nil, unexpected(m)
	}
	return a, nil
}

// Guard says whether the opens of programs are refused below held bundles, and gives the paths of the programs that the policy denies. A
// lockerd of before version 4 of the protocol has no guard: then the state is zero.
func (c *Client) Guard(ctx context.Context) (GuardState, []string, error) {
	m, err := c.ask(ctx, &wire.Guard{})
	if CodeOf(err) == CodeUnsupported {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	a, ok := m.(*wire.GuardReply)
	if !ok {
		return 0, nil, unexpected(m)
	}
	return a.State, a.Programs, nil
}

// Reload has lockerd take its policy file anew, for root only, and gives what that changed, in lines. If the file is
// bad, the old policy stays in force and the Error says why.
func (c *Client) Reload(ctx context.Context) ([]string, error) {
	m, err := c.ask(ctx, &wire.Reload{})
	if err != nil {
		return nil, err
	}
	a, ok := m.(*wire.Reloaded)
	if !ok {
		return nil, unexpected(m)
	}
	return a.Lines, nil
}

// Rules says what we may lock.
func (c *Client) Rules(ctx context.Context) ([]Allowance, error) {
	k := newCall()
	m, err := c.askFor(ctx, k, &wire.Rules{})
	if err != nil {
		return nil, err
	}
	a, ok := m.(*wire.RulesReply)
	if !ok || len(k.quiets) != 0 && len(k.quiets) != len(a.Rules) {
		return nil, unexpected(m)
	}
	rules := make([]Allowance, len(a.Rules))
	for i, r := range a.Rules {
		rules[i].Allowance = r
		if len(k.quiets) > 0 {
			rules[i].Quiet = k.quiets[i]
		}
	}
	return rules, nil
}

// Query asks what the policy would decide.
type Query struct {
	User   string   // name or uid
	Groups []string // names or gids; nil: those that the user database has for the user
	Action string   // lock, lock-shared, list or break
	Path   string
}

// Explain asks what the policy would decide, and why; for root only.
func (c *Client) Explain(ctx context.Context, q Query) (*Explanation, error) {
	m, err := c.ask(ctx, &wire.Explain{
		User: q.User, HasGroups: q.Groups != nil, Groups: q.Groups, Action: q.Action, Path: q.Path,
	})
	if err != nil {
		return nil, err
	}
	a, ok := m.(*wire.Explained)
	if !ok {
		return nil, unexpected(m)
	}
	return a, nil
}
