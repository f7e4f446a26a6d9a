package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"locker/audit"
	"locker/keeper"
)

// longestRedial bounds the pause between two tries to reach the keeper.
const longestRedial = 100 * time.Millisecond

// mindKeeper waits for the keeper's death, and has the next one take everything, until ctx is done.
func (b *Broker) mindKeeper(ctx context.Context) {
	for {
		b.mu.Lock()
		conn := b.keeping.conn
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-conn.Gone():
		}
		keeper.Step("keeper.gone")
		b.loseKeeper()
		b.logger.Warn("the keeper is gone; grants wait until it is back")
		if !b.findKeeper(ctx) {
			return
		}
	}
}

// loseKeeper notes that the keeper is gone, or does not do what it should.
func (b *Broker) loseKeeper() {
	b.mu.Lock()
	conn := b.keeping.conn
	b.keeping.conn, b.keeping.left = nil, nil
	b.pauseGrants()
	b.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

// findKeeper dials until a keeper has taken everything; false when ctx ended first.
func (b *Broker) findKeeper(ctx context.Context) bool {
	for pause := time.Millisecond; ; pause = min(2*pause, longestRedial) {
		if conn, err := b.redial(ctx); err == nil {
			keeper.Step("keeper.redialed")
			if err = b.sendAgain(ctx, conn); err == nil {
				b.logger.Info("the keeper has everything again", "pid", conn.PID())
				return true
			}
			b.loseKeeper()
			conn.Close() // twice, if it had become ours, which does no harm
			b.logger.Warn("keeper", "error", err)
		}
		over := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			over.Stop()
			return false
		case <-over.C:
		}
	}
}

// sendAgain brings a keeper up to date and makes it ours. SYNC is not decoration: a keeper that is being killed drops its connection
// while its socket still accepts, so all could be sent into a dying process. Only its answer says that it has everything.
func (b *Broker) sendAgain(ctx context.Context, conn *keeper.Conn) error {
	var old []keeper.Entry
	if !keeper.Seeded("no-sync") { // List is a round trip, too
		var err error
		if old, _, err = conn.List(ctx); err != nil {
			return err
		}
	}
	b.mu.Lock()
	b.keeping.conn = conn // from here on places are put, and whatever ends is dropped, there as well
	for _, e := range old {
		if b.table.byID(e.ID) == nil {
			conn.Drop(e.ID)
		}
	}
	holds, claims := b.table.allHolds(), b.table.allWaiting()
	b.mu.Unlock()
	b.work.Go(func() { // not under mu, and nobody waits: to close a file whose server does not answer may hang. close(2), FUSE's flush
		for _, e := range old {
			closeEntry(e)
		}
	})
	return b.upload(ctx, conn, holds, claims)
}

// upload sends holds and places, and goes on when the keeper says that it has them.
func (b *Broker) upload(ctx context.Context, conn *keeper.Conn, holds []*hold, claims []*claim) error {
	for _, h := range holds {
		if err := b.sendHold(ctx, conn, h); err != nil {
			return err
		}
	}
	for _, c := range claims {
		b.mu.Lock()
		if r := c.req; c.inTable() && (r.waited || r.phase == phaseAbsent) && !r.beingTaken() {
			b.keepPlace(r)
		}
		b.mu.Unlock()
	}
	keeper.Step("keeper.resent")
	if err := b.confirm(ctx, conn); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeping.ready = true
	if b.keeping.again != nil {
		close(b.keeping.again)
		b.keeping.again = nil
	}
	rec := audit.Record{Event: audit.EventKeeper, Code: "synced", PID: conn.PID(), Text: "it has a copy of every lock"}
	if left := len(b.keeping.left); left > 0 {
		b.logger.Error("the keeper has no room for all locks; a crash would end the others, and nothing is granted until it has", "others", left)
		rec.Code, rec.Text = "full", "it has no room for some locks: nothing is granted until it has"
	}
	rec.Count = uint64(b.table.countAllHolds() - len(b.keeping.left))
	b.append(&rec)
	keeper.Step("keeper.again")
	return nil
}

// confirm has the keeper say that it has what was sent. A Sync would tell it that this is everything, and so the next broker that
// what it does not have was let go: where there was no room for all, a list has to do.
func (b *Broker) confirm(ctx context.Context, conn *keeper.Conn) error {
	b.mu.Lock()
	all := len(b.keeping.left) == 0
	b.mu.Unlock()
	if all {
		return conn.Sync(ctx)
	}
	has, _, err := conn.List(ctx)
	b.work.Go(func() { // may hang where a file system does
		for _, e := range has {
			closeEntry(e)
		}
	})
	return err
}

// fullPatience is how long one hold waits for a keeper whose queue is full.
const fullPatience = 10 * time.Second

// sendHold sends one hold again, and waits while the keeper is behind. What the keeper has no room for is left for later.
func (b *Broker) sendHold(ctx context.Context, conn *keeper.Conn, h *hold) error {
	if keeper.Seeded("no-upload") {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, fullPatience)
	defer cancel()
	for {
		b.mu.Lock()
		err := b.putHold(conn, h)
		if errors.Is(err, keeper.ErrNoRoom) {
			b.keeping.left = append(b.keeping.left, h)
			err = nil
		}
		b.mu.Unlock()
		if err == nil {
			return nil
		}
		if err := conn.Await(waiting, err); err != nil {
			return fmt.Errorf("send lock %d again: %w", h.id, err)
		}
	}
}

// putHold hands a copy of a hold to the keeper, unless the hold is ending: who ends it marks it under mu before he closes its
// descriptor, and drops it afterwards. The caller holds mu.
func (b *Broker) putHold(conn *keeper.Conn, h *hold) error {
	if b.table.byID(h.id) != h || h.info.releasing || h.info.untold {
		return nil
	}
	var buf [maxBlob]byte
	data := b.blobOfHold(h).append(buf[:0])
	return conn.Put(keeper.Entry{ID: h.id, Blob: data, Lock: h.info.file.FD(), Holder: holderOf(h.info)})
}

// keepLeft sends what the keeper had no room for, as far as it has by now. The caller holds mu.
func (b *Broker) keepLeft() {
	if len(b.keeping.left) == 0 {
		return
	}
	for len(b.keeping.left) > 0 {
		if b.putHold(b.keeping.conn, b.keeping.left[0]) != nil {
			return
		}
		b.keeping.left = b.keeping.left[1:]
	}
	b.logger.Info("the keeper has a copy of every lock again")
	b.append(&audit.Record{Event: audit.EventKeeper, Code: "room", Count: uint64(b.table.countAllHolds()), Text: "it has a copy of every lock"})
}
