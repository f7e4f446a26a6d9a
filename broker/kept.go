package broker

import (
	"context"
	"time"

	"locker/keeper"
)

// AwaitKept waits until a keeper has just said that it has everything: then another broker can go on where this one is. That it
// once said so is not enough, since it may have been killed a moment ago, and nobody have looked yet. It cannot say so while it has
// no room for some. An error is ctx's.
// Without a keeper there is nothing to wait for.
func (b *Broker) AwaitKept(ctx context.Context) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		b.mu.Lock()
		wanted, ready, conn, again := b.keeping.wanted, b.keeping.ready && len(b.keeping.left) == 0, b.keeping.conn, b.keeping.again
		b.mu.Unlock()
		switch {
		case !wanted:
			return nil
		case !ready || conn == nil:
		case keeper.Seeded("no-sync"):
			return nil
		case conn.Sync(ctx) == nil:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again: // closed when it has everything; nil if its end has not been noticed yet
		case <-look.C:
		}
	}
}
