package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"locker/audit"
	"locker/keeper"
	"locker/wire"
)

// The broker's side of the keeper. Every hold has a copy of its descriptor there from its grant to its release, so that a SIGKILL
// of either process leaves one copy, and with it the kernel's locks; every claim that waits has its place there. See package keeper
// for why that is safe, and restore.go for what is made of it at a start.

// keeping is the connection to the keeper. All of it is guarded by Broker.mu; nothing that is called on conn under it can block.
type keeping struct {
	wanted bool          // there is to be a keeper: without one nothing is granted
	conn   *keeper.Conn  // nil: gone, and not come again yet
	ready  bool          // it has everything; grants go on
	again  chan struct{} // closed when it is ready again; nil while it is
	places uint64        // ids of places given out
}

// errKeeperGone says that the keeper cannot take a copy now: the grant waits until it can.
var errKeeperGone = errors.New("the keeper is gone")

// pausedNonBlock is how long a request that does not want to wait waits for a keeper that is started again.
const pausedNonBlock = 5 * time.Second

// keepHold hands a copy of a hold's descriptor to the keeper, before the hold is in the table, and so before anybody can be told
// of it or end it. The caller holds mu.
func (b *Broker) keepHold(id uint64, r *request, info *holdInfo, k key) error {
	if !b.keeping.wanted {
		return nil
	}
	if !b.keeping.ready {
		return errKeeperGone
	}
	var buf [maxBlob]byte
	m, _ := modeOf(r.msg.Mode)
	data := b.blobOf(info, k, m).append(buf[:0])
	err := b.keeping.conn.Put(keeper.Entry{ID: id, Blob: data, Lock: info.file.FD(), Holder: holderOf(info)})
	if errors.Is(err, keeper.ErrGone) {
		return errKeeperGone
	}
	return err
}

// holderOf gives the pidfd that goes with a hold: of an attached one, which ends with its process.
func holderOf(info *holdInfo) int {
	if info.life == wire.Attached {
		return info.who.peer.PidFD
	}
	return -1
}

// blobOfHold describes a hold for the next broker. The caller holds mu.
func (b *Broker) blobOfHold(h *hold) *blob {
	d := b.blobOf(h.info, h.key, h.mode)
	if h.ending {
		d.flags |= flagEnding
	}
	return d
}

func (b *Broker) blobOf(i *holdInfo, k key, m mode) *blob {
	p := &i.who.peer
	d := blob{
		kind: keptHold, mode: m, life: i.life, boot: b.bootID, session: i.by, request: i.request,
		pid: p.PID, start: i.who.start, uid: p.UID, gid: p.GID, dev: k.dev, ino: k.ino,
		due: i.due.at, grace: i.grace, began: i.began, tag: i.tag, path: i.path,
	}
	if i.resumes {
		d.flags |= flagResumes
	}
	if i.target != "" {
		d.flags |= flagBundle
	}
	return &d
}

// unkeep tells the keeper that a lock is let go. The caller holds mu.
func (b *Broker) unkeep(id uint64) {
	if b.keeping.conn != nil {
		b.keeping.conn.Drop(id) // if the keeper is gone, it goes with it; while everything is sent again, releasing holds are left out
	}
}

// keepPlace puts a claim's place in its queues where the next broker finds it. Should that fail, a crash costs the place and
// nothing else. The caller holds mu.
func (b *Broker) keepPlace(r *request) {
	if b.keeping.conn == nil || !r.s.resumes() || r.ended != 0 || slices.Equal(r.placed, r.claim.keys) {
		return
	}
	old := r.places
	r.places, r.placed = nil, slices.Clone(r.claim.keys)
	for i, k := range r.claim.keys {
		b.keeping.places++
		id := uint64(waitBit) | b.keeping.places
		if err := b.putPlace(b.keeping.conn, id, r, i, k); err != nil {
			b.logger.Debug("place not kept", "error", err)
			break
		}
		r.places = append(r.places, id)
	}
	b.dropPlaces(old) // last: a crash in between finds both, and not none
	keeper.Step("wait.kept")
}

func (b *Broker) putPlace(conn *keeper.Conn, id uint64, r *request, i int, k key) error {
	p := &r.who.peer
	m, _ := modeOf(r.msg.Mode)
	d := blob{
		kind: keptWait, mode: m, life: r.msg.Life, flags: flagResumes, boot: b.bootID, session: r.s.id, request: r.id,
		pid: p.PID, start: r.who.start, uid: p.UID, gid: p.GID, dev: k.dev, ino: k.ino,
		began: r.began, round: r.claim.round, arrival: r.claim.arrival, tag: r.msg.Tag, path: r.pathOf(i),
	}
	var buf [maxBlob]byte
	return conn.Put(keeper.Entry{ID: id, Blob: d.append(buf[:0]), Lock: -1, Holder: p.PidFD})
}

// dropPlace takes a claim's place away from the keeper. The caller holds mu.
func (b *Broker) dropPlace(r *request) {
	b.dropPlaces(r.places)
	r.places, r.placed = nil, nil
}

func (b *Broker) dropPlaces(ids []uint64) {
	if b.keeping.conn == nil || b.handed.Load() { // what is handed over, the next broker takes
		return
	}
	for _, id := range ids {
		b.keeping.conn.Drop(id)
	}
}

// tellKeeper describes a hold anew, whose deadline has changed. The caller holds mu.
func (b *Broker) tellKeeper(h *hold) {
	if b.keeping.conn == nil {
		return
	}
	var buf [maxBlob]byte
	if err := b.keeping.conn.Set(h.id, b.blobOfHold(h).append(buf[:0])); err != nil {
		b.logger.Debug("keeper not told", "id", h.id, "error", err) // the next broker counts the grace from its start
	}
}

// pauseForKeeper lets a claim whose files are locked wait until the keeper can take copies again. It keeps the kernel's locks
// meanwhile: it is the head of its queues, and nobody else is to get in between.
func (b *Broker) pauseForKeeper(ctx context.Context, r *request) []event {
	waiting, cancel := context.WithCancel(ctx)
	if r.msg.Wait == wire.NonBlock {
		waiting, cancel = context.WithTimeout(ctx, pausedNonBlock)
	}
	b.mu.Lock()
	again := b.keeping.again
	r.cancel = cancel
	if r.ended != 0 {
		cancel()
	} else if r.msg.Wait != wire.NonBlock {
		b.setWaitDeadline(r)
	}
	b.mu.Unlock()
	b.work.Go(func() {
		defer cancel()
		if again != nil {
			select {
			case <-again:
			case <-waiting.Done():
			}
		}
		if waiting.Err() == nil {
			b.runFor(ctx, r, b.lookAgain(ctx, r))
			return
		}
		r.unlockFiles(len(r.files))
		b.giveUp(ctx, r, wire.CodeUnavailable)
	})
	return nil
}

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
	b.keeping.conn, b.keeping.ready = nil, false
	if b.keeping.again == nil {
		b.keeping.again = make(chan struct{})
		b.append(&audit.Record{Event: audit.EventKeeper, Code: "gone", Text: "grants wait until it is back"})
	}
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
			r.places, r.placed = nil, nil // they were the other keeper's
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
		if b.table.byID(h.id) != h || h.info.releasing {
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
