package broker

import (
	"context"
	"sync"
	"sync/atomic"

	"locker/audit"
	"locker/guard"
	"locker/wire"
)

// A guard that has just come is told of all bundles that are held: of each user's one after the other, and of all users' at once, since a
// bundle may be slow to read, and nobody else is to be unguarded for that.

// guardHolds begins to tell a new guard of what is held. What it has been told of is on record when it knows all.
func (b *Broker) guardHolds(ctx context.Context, conn *guard.Conn) {
	var tellers sync.WaitGroup
	var count atomic.Uint64
	b.mu.Lock()
	for _, h := range b.table.allHolds() {
		if uid := h.uid; b.needsGuard(h.info) && !b.guarding.telling[uid] { // who is at it still will see that the guard is another
			b.guarding.telling[uid] = true
			tellers.Add(1)
			b.work.Go(func() { defer tellers.Done(); b.guardHoldsOf(ctx, uid, &count) })
		}
	}
	b.mu.Unlock()
	b.work.Go(func() {
		tellers.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.guarding.conn == conn && !b.guarding.over {
			b.append(&audit.Record{Event: audit.EventGuard, Code: guardOn, PID: conn.PID(), Count: count.Load()})
			b.logger.Info("guarding", "pid", conn.PID(), "held", count.Load())
		}
	})
}

// guardHoldsOf tells the guard that there is of one user's bundles, until one knows all.
func (b *Broker) guardHoldsOf(ctx context.Context, uid uint32, count *atomic.Uint64) {
	for {
		b.mu.Lock()
		conn := b.guarding.conn
		var left []*hold
		for _, h := range b.table.heldByUID(uid) {
			if b.needsGuard(h.info) {
				left = append(left, h)
			}
		}
		b.mu.Unlock()
		for _, h := range left {
			if b.guardIs(ctx, conn) && b.guardHold(ctx, conn, h) {
				count.Add(1)
			}
		}
		b.mu.Lock()
		done := b.guarding.conn == nil || b.guarding.conn == conn || ctx.Err() != nil // who finds the next one comes here again
		if done {
			delete(b.guarding.telling, uid)
		}
		b.mu.Unlock()
		if done {
			return
		}
	}
}

// guardIs reports whether conn is the guard still.
func (b *Broker) guardIs(ctx context.Context, conn *guard.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return conn != nil && b.guarding.conn == conn && ctx.Err() == nil
}

// needsGuard reports whether a hold is a bundle's that nobody guards. The caller holds mu.
func (b *Broker) needsGuard(i *holdInfo) bool {
	return !i.releasing && !i.untold && i.ward == nil && i.file.Bundle && !b.rules.Load().opener.MayHang(i.file)
}

// guardHold has a hold of before guarded.
func (b *Broker) guardHold(ctx context.Context, conn *guard.Conn, h *hold) bool {
	b.mu.Lock()
	if b.table.byID(h.id) != h || !b.needsGuard(h.info) {
		b.mu.Unlock()
		return false
	}
	file := h.info.file
	b.mu.Unlock()
	w, err := b.newWard(ctx, conn, h.uid, nil, b.rules.Load().opener, file, h.info.path)
	b.mu.Lock()
	late := b.table.byID(h.id) != h || h.info.releasing || b.guarding.conn != conn || ctx.Err() != nil
	switch {
	case err != nil && !late:
		b.recordUnguarded(h.id, h.info.path, err)
	case err == nil && !late:
		w.hold = h.id
		h.info.ward = w
		h.info.rests |= wire.RestGuard
		b.lapse(h)
		b.changed()
	}
	b.mu.Unlock()
	if err == nil && late {
		b.lift(w)
	}
	return err == nil && !late
}
