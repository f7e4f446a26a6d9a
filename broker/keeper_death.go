package broker

import (
	"context"
	"errors"
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
	b.keeping.conn = nil
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
		closeEntry(e)
		if b.table.byID(e.ID) == nil {
			conn.Drop(e.ID)
		}
	}
	holds, claims := b.table.allHolds(), b.table.allWaiting()
	b.mu.Unlock()
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
		if r := c.req; c.inTable() && (r.waited || r.phase == phaseAbsent) {
			b.keepPlace(r)
		}
		b.mu.Unlock()
	}
	keeper.Step("keeper.resent")
	if err := conn.Sync(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keeping.ready = true
	if b.keeping.again != nil {
		close(b.keeping.again)
		b.keeping.again = nil
	}
	b.append(&audit.Record{Event: audit.EventKeeper, Code: "synced", Count: uint64(b.table.countAllHolds()), PID: conn.PID(), Text: "it has a copy of every lock"})
	keeper.Step("keeper.again")
	return nil
}

// fullPause is between two tries to send to a keeper whose queue is full, fullPatience the end of trying.
const (
	fullPause    = time.Millisecond
	fullPatience = 10 * time.Second
)

// sendHold sends one hold again, waiting for room. Under mu, so that the descriptor is the hold's: who ends a hold marks it under mu
// before he closes it, and drops it afterwards.
func (b *Broker) sendHold(ctx context.Context, conn *keeper.Conn, h *hold) error {
	if keeper.Seeded("no-upload") {
		return nil
	}
	var buf [maxBlob]byte
	for began := time.Now(); ; {
		b.mu.Lock()
		if b.table.byID(h.id) != h || h.info.releasing || h.info.untold {
			b.mu.Unlock()
			return nil
		}
		data := b.blobOfHold(h).append(buf[:0])
		err := conn.Put(keeper.Entry{ID: h.id, Blob: data, Lock: h.info.file.FD(), Holder: holderOf(h.info)})
		b.mu.Unlock()
		if !errors.Is(err, keeper.ErrFull) || time.Since(began) > fullPatience {
			return err
		}
		over := time.NewTimer(fullPause)
		select {
		case <-over.C:
		case <-ctx.Done():
			over.Stop()
			return ctx.Err()
		}
	}
}
