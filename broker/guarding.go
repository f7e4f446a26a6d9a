package broker

import (
	"context"
	"slices"
	"sync"
	"time"

	"locker/audit"
	"locker/guard"
	"locker/wire"
)

// The broker's side of the guard, which refuses opens below held bundles to the programs of the policy's [guard]. See package guard for
// what it refuses, and that it lets everybody in when anything goes wrong.
//
// A hold rests on the guard while it is told of the hold's directories: wire.RestGuard is set and cleared with it. The guard is told
// before a claim's last look at who has the token open (guardFiles), and let go after the kernel's lock (letGo). When the guard goes, by
// its death or with a policy that names others, all holds rest on it no more; the next one is told of all of them again, and what was
// opened in between stays open. So a start begins, too.

// guarding is the connection to the guard. Guarded by Broker.mu; nothing that is called under it waits.
type guarding struct {
	conn  *guard.Conn      // nil: there is none
	again chan struct{}    // closed when there is one; nil while there is
	since time.Duration    // boot clock: when the last one went, or the policy began to ask for one, or we started
	why   string           // there is none, as was recorded last; "": nothing was
	last  uint64           // id of a ward
	wards map[uint64]*ward // what conn guards, or is about to, by id
	over  bool             // we end: there will be no other

	telling map[uint32]bool // uids of whose holds somebody tells the guard: see guardHolds
	dirs    map[uint32]int  // directories that are guarded for each uid's sake

	nowhere ward // has the refusals of which the guard, or we, cannot tell any more below what they were

	anew chan struct{} // capacity 1: the policy may name others
}

const (
	// guardPatience is how long after the guard went a claim waits for the next one, and how long it waits for an answer: who hangs is
	// killed after one second.
	guardPatience = 2 * time.Second
	// The pause before the guard is connected to again doubles between these bounds, until one has lived for guardLives: one that ends
	// soon, whatever it is told, would fill the log.
	leastGuardPause   = time.Millisecond
	longestGuardPause = time.Second
	guardLives        = 10 * time.Second
)

func newGuarding(now time.Duration) guarding {
	return guarding{again: make(chan struct{}), since: now, wards: map[uint64]*ward{}, telling: map[uint32]bool{}, dirs: map[uint32]int{}, anew: make(chan struct{}, 1)}
}

// wantsGuard reports whether there is to be a guard.
func (b *Broker) wantsGuard() bool { return b.dialGuard != nil && len(b.rules.Load().policy.Guard) > 0 }

// mindGuard finds the guard, tells it who is refused and of what is held, and hears it, again and again, until ctx is done.
func (b *Broker) mindGuard(ctx context.Context) {
	for pause := leastGuardPause; ctx.Err() == nil; {
		programs := b.rules.Load().policy.Guard
		if len(programs) == 0 {
			select {
			case <-ctx.Done():
			case <-b.guarding.anew:
			}
			continue
		}
		conn, err := b.beginGuarding(ctx, programs)
		if err == nil {
			began := time.Now()
			b.guardHolds(ctx, conn)
			b.hearGuard(ctx, conn, programs)
			if ctx.Err() != nil { // we end, and what it guards with us
				b.endGuarding(conn)
				return
			}
			b.loseGuard(conn)
			if !slices.Equal(programs, b.rules.Load().policy.Guard) {
				continue
			}
			if time.Since(began) >= guardLives {
				pause = leastGuardPause
			}
		} else {
			b.noGuard(err)
		}
		over := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-b.guarding.anew:
		case <-over.C:
		}
		over.Stop()
		pause = min(2*pause, longestGuardPause)
	}
}

// beginGuarding connects to the guard and says who is refused; from when it gives the connection, claims use it.
func (b *Broker) beginGuarding(ctx context.Context, programs []string) (*guard.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, b.times.guard)
	defer cancel()
	conn, err := b.dialGuard(ctx)
	if err != nil {
		return nil, err
	}
	if err := conn.Deny(ctx, programs); err != nil {
		conn.Close()
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.guarding.conn, b.guarding.why = conn, ""
	close(b.guarding.again)
	b.guarding.again = nil
	return conn, nil
}

// hearGuard takes what the guard says unasked, until it goes, or others are to be refused.
func (b *Broker) hearGuard(ctx context.Context, conn *guard.Conn, programs []string) {
	hearing, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait() // else it might take what is meant for mindGuard
	defer stop()
	looking.Go(func() {
		for {
			select {
			case <-hearing.Done():
				return
			case <-b.guarding.anew:
				if !slices.Equal(programs, b.rules.Load().policy.Guard) {
					stop()
					return
				}
			}
		}
	})
	for {
		ev, err := conn.Next(hearing)
		if err != nil {
			return
		}
		b.noteGuardEvent(&ev)
	}
}

// endGuarding ends a guard's work, since we end.
func (b *Broker) endGuarding(conn *guard.Conn) {
	conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushWards()
	b.guarding.over = true
}

// loseGuard notes that a guard refuses nobody any more, or hangs and shall not; once, whoever finds it first.
func (b *Broker) loseGuard(conn *guard.Conn) {
	conn.Close()
	b.mu.Lock()
	if b.guarding.conn != conn || b.guarding.over {
		b.mu.Unlock()
		return
	}
	b.flushWards()
	var count uint64
	for _, h := range b.table.allHolds() {
		if h.info.ward != nil && !h.info.releasing {
			h.info.ward = nil
			h.info.rests &^= wire.RestGuard
			b.lapse(h)
			count++
		}
	}
	g := &b.guarding
	g.conn, g.again, g.since, g.why = nil, make(chan struct{}), b.boot(), ""
	clear(g.wards)
	clear(g.dirs)
	wanted := b.wantsGuard()
	rec := audit.Record{Event: audit.EventGuard, Code: guardGone, PID: conn.PID(), Count: count}
	if !wanted {
		rec.Code = guardOff
	}
	b.append(&rec)
	b.changed()
	b.mu.Unlock()
	if wanted {
		b.logger.Warn("the guard is gone: until it is back the programs that it refuses are let in", "held", count)
	}
}

// noGuard notes why there is no guard, once it should have come; a reason that is not new is not said again.
func (b *Broker) noGuard(err error) {
	why := wire.Clip(err.Error(), wire.MaxText)
	b.mu.Lock()
	known := b.guarding.why == why || b.boot()-b.guarding.since < b.times.guard
	if !known {
		b.guarding.why = why
		b.append(&audit.Record{Event: audit.EventGuard, Code: guardGone, Text: why})
	}
	b.mu.Unlock()
	if !known {
		b.logger.Warn("there is no guard: the programs that it is to refuse are let in", "error", err)
	}
}

// expectGuard has claims wait for the guard that a policy is about to ask for, as if one had just gone. Before the policy is in force: a claim
// may be as quick as that.
func (b *Broker) expectGuard() {
	b.mu.Lock()
	b.guarding.since = b.boot()
	b.mu.Unlock()
}

// guardsAnew has mindGuard look at the policy.
func (b *Broker) guardsAnew() {
	select {
	case b.guarding.anew <- struct{}{}:
	default: // it will
	}
}
