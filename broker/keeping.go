package broker

import (
	"context"
	"errors"
	"fmt"
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
	left   []*hold       // that it has no room for: until it has, nothing is granted. They may have ended

	shifted []*request // have places that it knows in rounds that are past: see keepShifted
}

// errKeeperGone says that the keeper cannot take a copy now: the grant waits until it can.
var errKeeperGone = errors.New("the keeper is gone")

// errNotKept says that the keeper does not take a copy, whatever the reason.
var errNotKept = errors.New("no copy can be kept")

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
	if len(b.keeping.left) > 0 {
		return fmt.Errorf("%w: %w", errNotKept, keeper.ErrNoRoom)
	}
	var buf [maxBlob]byte
	m, _ := modeOf(r.msg.Mode)
	data := b.blobOf(info, k, m).append(buf[:0])
	err := b.keeping.conn.Put(keeper.Entry{ID: id, Blob: data, Lock: info.file.FD(), Holder: holderOf(info)})
	if errors.Is(err, keeper.ErrGone) {
		b.pauseGrants() // we may be the first to notice
		return errKeeperGone
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	return nil
}

// pauseGrants has grants wait until a keeper has everything. The caller holds mu.
func (b *Broker) pauseGrants() {
	b.keeping.ready = false
	if b.keeping.again == nil {
		b.keeping.again = make(chan struct{})
		b.append(&audit.Record{Event: audit.EventKeeper, Code: "gone", Text: "grants wait until it is back"})
	}
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
	if i.rests&wire.RestIdle != 0 {
		d.flags |= flagIdle
	}
	return &d
}

// unkeep tells the keeper that a lock is let go. The caller holds mu.
func (b *Broker) unkeep(id uint64) {
	if b.keeping.conn != nil {
		b.keeping.conn.Drop(id) // if the keeper is gone, it goes with it; while everything is sent again, releasing holds are left out
		b.keepLeft()
	}
}

// keepPlace puts a claim's place in its queues where the next broker finds it. Should that fail, a crash costs the place and
// nothing else. The caller holds mu.
func (b *Broker) keepPlace(r *request) {
	if b.keeping.conn == nil || !r.s.resumes() || r.ended != 0 {
		return
	}
	if r.placedWith != b.keeping.conn {
		r.places, r.placed = nil, nil // another keeper's
	}
	if slices.Equal(r.placed, r.claim.keys) {
		return
	}
	old := r.places
	r.places, r.placed, r.placedWith = nil, slices.Clone(r.claim.keys), b.keeping.conn
	for i, k := range r.claim.keys {
		b.keeping.places++
		id := uint64(waitBit) | b.keeping.places
		if err := b.putPlace(b.keeping.conn, id, r, i, k); err != nil {
			b.logger.Debug("place not kept", "error", err)
			break
		}
		r.places = append(r.places, keptPlace{id, k})
	}
	b.dropPlaces(old) // last: a crash in between finds both, and not none
	keeper.Step("wait.kept")
}

// keptPlace is a place in one file's queue that the keeper has.
type keptPlace struct {
	id  uint64 // of the keeper's entry
	key key
}

func (b *Broker) putPlace(conn *keeper.Conn, id uint64, r *request, i int, k key) error {
	var buf [maxBlob]byte
	return conn.Put(keeper.Entry{ID: id, Blob: b.blobOfPlace(r, i, k).append(buf[:0]), Lock: -1, Holder: r.who.peer.PidFD})
}

// blobOfPlace describes a place for the next broker. The caller holds mu.
func (b *Broker) blobOfPlace(r *request, i int, k key) *blob {
	p := &r.who.peer
	m, _ := modeOf(r.msg.Mode)
	return &blob{
		kind: keptWait, mode: m, life: r.msg.Life, flags: flagResumes, boot: b.bootID, session: r.s.id, request: r.id,
		pid: p.PID, start: r.who.start, uid: p.UID, gid: p.GID, dev: k.dev, ino: k.ino,
		due: r.waitEnd(), began: r.began, round: r.claim.round, arrival: r.claim.arrival, tag: r.msg.Tag, path: r.pathOf(i),
	}
}

// noteShifted notes the places that the keeper is to be told anew, since a set has had their lines counted on. The caller holds mu.
func (b *Broker) noteShifted() {
	for _, c := range b.table.takeShifted() {
		b.tellPlaces(c.req)
	}
}

// tellPlaces has the keeper told anew of a claim's places, soon. The caller holds mu.
func (b *Broker) tellPlaces(r *request) {
	if len(r.places) > 0 && !r.shifted {
		r.shifted = true
		b.keeping.shifted = append(b.keeping.shifted, r)
		b.poke()
	}
}

// The keeper is told of so many places at once, and of more after so long at the latest: a line may be thousands long, and grants need
// room in its queue, too.
const (
	shiftedAtOnce = 32
	shiftedPause  = time.Millisecond
)

// keepShifted tells the keeper of the places that tellPlaces has noted; true if there are more. A crash before it is told brings their
// owners back in the order of before. The caller holds mu.
func (b *Broker) keepShifted() (more bool) {
	all := b.keeping.shifted
	for told := 0; len(all) > 0 && told < shiftedAtOnce; all = all[1:] {
		r := all[0]
		if errors.Is(b.setPlaces(r), keeper.ErrFull) {
			break
		}
		told += len(r.places)
		r.shifted = false
	}
	if b.keeping.shifted = all; len(all) == 0 {
		b.keeping.shifted = nil
	}
	return len(all) > 0
}

// setPlaces describes a claim's places anew to the keeper that has them. The caller holds mu.
func (b *Broker) setPlaces(r *request) error {
	if r.claim == nil || !r.claim.inTable() || b.keeping.conn == nil || r.placedWith != b.keeping.conn || !slices.Equal(r.placed, r.claim.keys) {
		return nil // they are gone, or will be put where the claim is by then
	}
	var buf [maxBlob]byte
	for _, p := range r.places {
		i := slices.Index(r.claim.keys, p.key)
		if err := b.keeping.conn.Set(p.id, b.blobOfPlace(r, i, p.key).append(buf[:0])); err != nil {
			return err
		}
	}
	return nil
}

// dropPlace takes a claim's place away from the keeper. The caller holds mu.
func (b *Broker) dropPlace(r *request) {
	b.dropPlaces(r.places)
	r.places, r.placed = nil, nil
}

func (b *Broker) dropPlaces(places []keptPlace) {
	if b.keeping.conn == nil || b.handed.Load() { // what is handed over, the next broker takes
		return
	}
	for _, p := range places {
		b.keeping.conn.Drop(p.id)
	}
	b.keepLeft()
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
		over := time.AfterFunc(b.times.paused, cancel)
		context.AfterFunc(waiting, func() { over.Stop() })
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
			b.inSlot(ctx, r, func() []event { return b.lookAgain(ctx, r) })
			return
		}
		if r.mayHang() {
			b.withoutLocks(ctx, r, func() { b.giveUp(ctx, r, wire.CodeUnavailable) })
			return
		}
		r.unlockFiles(len(r.files))
		b.giveUp(ctx, r, wire.CodeUnavailable)
	})
	return nil
}
