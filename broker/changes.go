package broker

import (
	"context"
	"slices"
	"time"

	"locker/flock"
	"locker/wire"
)

// No lock keeps a held file from being deleted or renamed, so that is noticed: flock.Changes sees it, here is whose hold it was, and
// altered.go says so.
//
// A bundle is watched as soon as it is held, before its holder is told so: in it a backup may be destroyed file by file. Any other file
// is watched once it has been held for watchAfter, off the way of its grant, since most locks are let go before (BenchmarkWatchAndUnwatch of
// flock says what it would cost); what has become of its name until then is seen when the watch begins. So are the holds of an earlier run.

// changes is guarded by Broker.mu, but for kernel, which has a lock of its own that is taken before mu.
type changes struct {
	kernel    *flock.Changes // nil: there is none, nothing is watched
	all, each int            // watches there may be, in all and for one uid
	used      int
	uids      map[uint32]int
	fresh     []*hold // neither watched nor known to be unwatched yet
	untold    []*hold // altered since that was told last
	warned    time.Duration
	wake      chan struct{} // of capacity 1: fresh or untold is not empty any more
}

// holdChanges is what is known of one hold's files.
type holdChanges struct {
	watches int             // counted in changes
	before  wire.Alteration // of earlier runs
	sum     wire.Alteration // with those
	told    time.Duration   // when sum was told last, on the boot clock; 0: never
	untold  bool            // in changes.untold

	final             flock.Alteration // of the last watch; of the one who ends the hold
	unlogged, unheard bool             // sum is not in the log; its session has not heard of it
}

const (
	watchAfter = 100 * time.Millisecond
	watchTick  = 100 * time.Millisecond // how often fresh is looked through while there is something,
	watchBatch = 256                    // and how many are watched then

	mostWatches   = 1 << 16 // of all holds; of what the kernel allows (fs.inotify.max_user_watches) half at most, since root has others
	watchesPerUID = 16      // a uid has one part of so many, so that it leaves the others theirs
	warnPause     = time.Minute
)

// newChanges begins to watch, or says why nothing will be watched: that refuses nobody a lock.
func (b *Broker) newChanges() {
	c := &b.changes
	c.uids, c.wake = map[uint32]int{}, make(chan struct{}, 1)
	c.all = min(mostWatches, flock.MaxWatches()/2)
	c.each = c.all / watchesPerUID
	var err error
	if c.kernel, err = flock.NewChanges(b.altered); err != nil {
		c.kernel = nil
		b.logger.Warn(notWatched, "error", err)
	}
}

const notWatched = "deleted and renamed files of locks are not noticed"

// await notes a hold that is to be watched. The caller holds mu.
func (c *changes) await(h *hold) {
	if h.info.file == nil {
		return // it is lost
	}
	c.fresh = append(c.fresh, h)
	h.info.fresh = len(c.fresh)
	c.poke()
}

// dequeue takes a hold out of fresh. The caller holds mu.
func (c *changes) dequeue(h *hold) {
	if i := h.info.fresh; i > 0 {
		last := c.fresh[len(c.fresh)-1]
		c.fresh[i-1], last.info.fresh = last, i
		c.fresh[len(c.fresh)-1] = nil
		c.fresh, h.info.fresh = c.fresh[:len(c.fresh)-1], 0
	}
}

func (c *changes) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// forget takes a hold out of the books when it has ended. The caller holds mu.
func (c *changes) forget(h *hold) {
	c.dequeue(h)
	k := h.info.changes
	if k == nil {
		return
	}
	if k.untold {
		c.untold = slices.DeleteFunc(c.untold, func(g *hold) bool { return g == h })
	}
	c.giveBack(h, k)
}

func (c *changes) giveBack(h *hold, k *holdChanges) {
	c.used -= k.watches
	if c.uids[h.uid] -= k.watches; c.uids[h.uid] <= 0 {
		delete(c.uids, h.uid)
	}
	k.watches = 0
}

// watchBundles watches the bundles among holds that have just been granted. The caller does not hold mu.
func (b *Broker) watchBundles(holds []*hold) {
	for _, h := range holds {
		if h.info.file.Bundle {
			b.watchHold(h)
		}
	}
}

// watchHold has the files of a hold watched, if it is one still. The caller does not hold mu.
func (b *Broker) watchHold(h *hold) {
	c := &b.changes
	b.mu.Lock()
	if h.info.fresh == 0 || h.info.releasing {
		b.mu.Unlock()
		return
	}
	c.dequeue(h)
	if h.info.changes == nil {
		h.info.changes = &holdChanges{}
	}
	k, file, opener := h.info.changes, h.info.file, b.rules.Load().opener
	known := k.before.Count > 0 // that its name leads elsewhere may be among it, and is not to count at each restart
	n := opener.Watches(file)
	why := ""
	switch {
	case c.kernel == nil:
		why = "there is no inotify instance"
	case n == 0:
		why = "it is on a network file system"
	case c.used+n > c.all || h.uid != 0 && c.uids[h.uid]+n > c.each:
		why = "there are as many watches as may be"
	default:
		k.watches = n // from here on the end of the hold ends them: see unwatch
		c.used += n
		c.uids[h.uid] += n
	}
	if why != "" {
		b.leaveUnwatched(h, why)
	}
	b.mu.Unlock()
	if why != "" {
		return
	}
	held := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return !h.info.releasing
	}
	if err := c.kernel.Watch(opener, file, h.id, known, held); err != nil {
		b.mu.Lock()
		b.leaveUnwatched(h, err.Error())
		b.mu.Unlock()
	}
}

// leaveUnwatched notes that a hold's files are not watched, or not all of them. It is held all the same, and says so in the list; the log
// has one line a minute of it. The caller holds mu.
func (b *Broker) leaveUnwatched(h *hold, why string) {
	h.info.changes.sum.Unwatched = true
	if h.info.network() {
		return // as is known, and said in the README
	}
	if now := b.boot(); b.changes.warned == 0 || now-b.changes.warned >= warnPause {
		b.changes.warned = now
		b.logger.Warn(notWatched, "path", h.info.path, "uid", h.uid, "reason", why)
	}
}

// unwatch ends the watches of a hold that is marked as ending, before its file is closed. The caller does not hold mu.
func (b *Broker) unwatch(h *hold) {
	// Nobody writes it any more: watchHold leaves alone what is marked.
	if k := h.info.changes; k != nil && k.watches > 0 {
		k.final = b.changes.kernel.Unwatch(h.id)
	}
}

// mindChanges watches what has been held for long enough, and tells what could not be told at once, until ctx is done.
func (b *Broker) mindChanges(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.changes.wake:
		}
		for more := true; more; {
			timer.Reset(watchTick)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			for _, h := range b.due() {
				if b.beforeWatch != nil {
					b.beforeWatch()
				}
				b.watchHold(h)
			}
			more = b.tellUntold()
		}
	}
}

// due gives some of the holds that are to be watched now.
func (b *Broker) due() (some []*hold) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.boot()
	for _, h := range b.changes.fresh {
		if now-h.info.began >= watchAfter {
			if some = append(some, h); len(some) == watchBatch {
				break
			}
		}
	}
	return some
}
