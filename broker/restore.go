package broker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"locker/audit"
	"locker/keeper"
	"locker/wire"
)

// A start takes over what an earlier run has left, before any client is served. There are two sources, in this order:
//
//   - The keeper has the descriptors themselves. A copy that still has its kernel lock, is in the log, and whose process lives is
//     held on, without a moment in between. One without a lock was being released; one that the log does not know was never
//     answered, since its record is written before the answer, unless the log was lost.
//   - The log. What it calls held and the keeper does not have was given up, or never answered, if this keeper was there all the
//     time (Past.Complete). Otherwise both processes have died or were stopped, or the machine was started anew: then it is claimed from the kernel
//     again, and the record says for how long nobody held it, or it is lost.
//
// A descriptor that has come back is never locked again: a conversion could lose the lock.

// restoring is what a start works with. Broker.mu is held all the time: nobody else is there yet, and append's rule is kept.
type restoring struct {
	*Broker
	past      keeper.Past
	whole     bool                // the log has lost nothing
	sameBoot  bool                // the log was last written since the machine was started
	idle      time.Duration       // since the last record: for so long at most nobody held what is claimed again
	began     time.Duration       // of this start, by the boot clock: no hold of an earlier run is younger
	known     map[uint64]struct{} // live by the log, and not dealt with yet
	fresh     []*hold             // that the keeper does not have
	last      uint64              // number of the last record
	silent    map[uint64]int      // files that have not been claimed in time, by st_dev as it was
	silentAll int
	waited    time.Duration // for network file systems, in all
	failed    error         // a shortage: it does not say that a lock is lost, so the start is given up, and the next one tries again
}

// restore is the whole start.
func (b *Broker) restore(ctx context.Context, c *Config) error {
	keeper.Step("start.listed")
	b.mu.Lock()
	fresh, err := b.restoreAll(c)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	keeper.Step("start.restored")
	if !b.keeping.wanted {
		return nil
	}
	if err := b.upload(ctx, b.keeping.conn, fresh, nil); err != nil {
		b.logger.Warn("keeper", "error", err)
		b.loseKeeper()
		if !b.findKeeper(ctx) {
			return ctx.Err()
		}
	}
	keeper.Step("start.synced")
	return nil
}

func (b *Broker) restoreAll(c *Config) (fresh []*hold, err error) {
	start := audit.Record{Event: audit.EventStart, PID: int32(selfPID()), Text: b.version}
	if b.append(&start) == 0 {
		return nil, errors.Join(errors.New("broker: the log does not take the start"), b.log.Health().Err)
	}
	policy := policyRecord(b.rules.Load().policy)
	state := b.log.Replayed()
	x := &restoring{
		Broker: b, past: c.Past, whole: b.log.Whole(), sameBoot: c.BootID != "" && state.BootID() == c.BootID,
		began: b.boot(), known: map[uint64]struct{}{}, silent: map[uint64]int{}, last: b.append(&policy),
	}
	x.idle = x.sinceLast()
	for _, l := range state.Lost() {
		if l.Grant.Life == wire.Attached.String() {
			x.keepUntold(&l.Grant)
			continue
		}
		b.lost[l.Grant.Seq] = &lostHold{id: l.Grant.Seq, uid: l.Grant.UID, grant: l.Grant, path: l.Grant.Path, reason: "lost"}
	}
	for _, id := range state.IDs() {
		x.known[id] = struct{}{}
	}
	places := x.fromKeeper(c.Listed)
	if x.failed == nil {
		x.fromLogAll()
	}
	if x.failed == nil {
		x.restorePlaces(places)
		places = nil
	}
	if x.failed != nil {
		x.giveBack(places)
		return nil, fmt.Errorf("take over the locks of before, which are kept: %w", x.failed)
	}
	for _, s := range b.sessions {
		b.await(s)
	}
	b.recheckHolds()
	if err := b.log.Commit(x.last, true); err != nil {
		// A full disk must not keep the locks of before from being held: it refuses grants until there is room.
		b.logger.Error("start not recorded on disk: nothing is granted until it can be", "error", err)
	}
	return x.fresh, nil
}

// fail notes that the start cannot go on, if err is not nil.
func (x *restoring) fail(err error) {
	if x.failed == nil {
		x.failed = err
	}
}

// giveBack closes what a start has taken over that is given up. What the keeper has listed it still has; what was claimed by the log is
// let go, and the next start claims it by the log again.
func (x *restoring) giveBack(entries []keeper.Entry) {
	for _, e := range entries {
		closeEntry(e)
	}
	for _, h := range x.table.allHolds() {
		if !h.info.untold {
			h.info.file.Close()
		}
	}
	for _, s := range x.sessions {
		x.deaths.remove(s.peer.PidFD)
	}
}

// processOf is sameAsThen for a start.
func (x *restoring) processOf(pid int32, start uint64) int {
	pidfd, err := sameAsThen(pid, start)
	x.fail(err)
	return pidfd
}

// sinceLast is how long ago the log was last written; the wall clock has to do where the boot clock has begun anew.
func (x *restoring) sinceLast() time.Duration {
	wall, boot := x.log.Last()
	if wall.IsZero() {
		return 0
	}
	if x.sameBoot {
		return max(0, x.boot()-boot)
	}
	return max(0, x.now().Sub(wall))
}

// record appends what became of a hold of the log; about is the record of its grant.
func (x *restoring) record(about audit.Record, event audit.Event, text string) {
	about.ID, about.Event, about.Text = about.Seq, event, text
	if event != audit.EventResume {
		about.Grace = 0
	}
	if n := x.append(&about); n != 0 {
		x.last = n
	}
}

// parseBootID takes the dashes out; zeros for what is no boot id.
func parseBootID(text string) (id [16]byte) {
	if raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", "")); err == nil {
		copy(id[:], raw)
	}
	return id
}
