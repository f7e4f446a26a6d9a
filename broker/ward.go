package broker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"locker/flock"
	"locker/guard"
)

// ward is a bundle that the guard refuses opens of, from when it is told until lift.
type ward struct {
	conn *guard.Conn
	id   uint64 // to the guard
	uid  uint32 // for whose sake
	dirs int    // how many directories

	// Guarded by Broker.mu.
	path string        // as the client named it
	hold uint64        // 0: not granted yet
	told time.Duration // boot clock: when its last refusals were recorded; 0: none were
	left []guard.Event // refusals that are not recorded yet, for each program
}

// wardFiles is how many descriptors a bundle's directories take for a moment.
const wardFiles = guard.MaxDirs + 2

// guardedEach is how many directories are guarded for one uid's sake at most, root excepted. The guard needs a descriptor for each, and
// how many a bundle has is up to its owner: see LimitNOFILE in etc/lockerd-guard.service.
const guardedEach = 4096

var errGuardedEach = errors.New("as many directories are guarded for this user as may be")

// newWard has the guard refuse opens below the bundle f, for uid. It waits for a slot of gate, if there is one, while it looks what
// the bundle's directories are, which their owner can make slow, and then for the guard's answer.
func (b *Broker) newWard(ctx context.Context, conn *guard.Conn, uid uint32, gate *slots, opener *flock.Opener, f *flock.File, path string) (*ward, error) {
	if err := b.beginOpening(uid, wardFiles); err != nil {
		return nil, err
	}
	defer b.endOpening(wardFiles)
	dirs, err := b.bundleDirs(ctx, gate, opener, f)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, fd := range dirs {
			unix.Close(fd)
		}
	}()
	b.mu.Lock()
	if b.guarding.conn != conn {
		b.mu.Unlock()
		return nil, guard.ErrGone
	}
	if uid != 0 && b.guarding.dirs[uid]+len(dirs) > guardedEach {
		b.mu.Unlock()
		return nil, errGuardedEach
	}
	b.guarding.last++
	w := &ward{conn: conn, id: b.guarding.last, uid: uid, dirs: len(dirs), path: path}
	b.guarding.wards[w.id] = w // before it can be spoken of
	b.guarding.dirs[uid] += w.dirs
	b.mu.Unlock()
	// From here on, and not from before the bundle was read: else its owner would have the guard taken for one that hangs.
	asking, cancel := context.WithTimeout(ctx, b.times.guard)
	defer cancel()
	if err := conn.Guard(asking, w.id, dirs); err != nil {
		if errors.Is(err, guard.ErrGone) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			b.loseGuard(conn) // it hangs, and what it may have done ends with the connection; or who looks next would find it still
		}
		b.lift(w)
		return nil, err
	}
	return w, nil
}

// bundleDirs opens the directories of a bundle that are guarded. The caller closes them.
func (b *Broker) bundleDirs(ctx context.Context, gate *slots, opener *flock.Opener, f *flock.File) ([]int, error) {
	if gate != nil {
		if !gate.acquire(ctx, b.times.open) {
			return nil, errTooManyOpens
		}
		defer gate.release()
	}
	if b.beforeWard != nil {
		b.beforeWard()
	}
	dirs, more, err := opener.BundleDirs(f, guard.MaxDirs)
	if more && err == nil {
		b.logger.Debug("a bundle has more directories than are guarded", "path", f.Path, "guarded", len(dirs))
	}
	return dirs, err
}

// lift ends a ward: when it returns the guard refuses nobody for its sake, or is gone, or hangs and is about to be killed. The caller
// does not hold mu.
func (b *Broker) lift(w *ward) {
	b.mu.Lock()
	b.flushWard(w)
	if b.guarding.wards[w.id] == w { // else its guard is gone, and all that was counted with it
		delete(b.guarding.wards, w.id)
		if b.guarding.dirs[w.uid] -= w.dirs; b.guarding.dirs[w.uid] == 0 {
			delete(b.guarding.dirs, w.uid)
		}
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), b.times.guard)
	defer cancel()
	if err := w.conn.Lift(ctx, w.id); err != nil && !errors.Is(err, guard.ErrGone) {
		b.logger.Error("the guard may still refuse opens", "path", w.path, "error", err)
		b.loseGuard(w.conn) // what it guards ends with the connection
	}
}

// liftAll ends the wards of a claim that is not granted.
func (r *request) liftAll() {
	wards := r.wards
	r.wards, r.unguarded, r.guardAsked = nil, nil, false
	for _, w := range wards {
		if w != nil {
			r.s.b.lift(w)
		}
	}
}
