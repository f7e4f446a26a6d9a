package flock

import (
	"context"
	"math/rand/v2"
	"os"
	"time"
)

// The net under the hints: how often a file is tried that gave no sign. An explicit LOCK_UN without close(2) gives none.
const (
	netStart   = 50 * time.Millisecond
	netEager   = 10 * time.Second // so long at netStart, then half as long again each time
	netLongest = 250 * time.Millisecond

	// The close event is sent before the kernel drops the locks of the description (fs/file_table.c, __fput), so the
	// first try after a hint can be too early by as long as the closer is kept off its processor.
	secondLook = time.Millisecond

	// Anybody who may read the file can open and close it in a loop. Beyond this many hints between two polls of the
	// net the file is not watched until the next poll.
	hintsPerPoll = 32
)

// Wait calls try until it says done, and then returns nil: at once, whenever somebody closed, moved, unlinked or changed
// the file, and on the net besides. It returns ctx.Err() as soon as ctx ends, and os.ErrClosed when the Waiter is closed.
// try must not block, unless ctx ends that, too; it is called in this goroutine, never after Wait has returned. With a nil f (an OpenBusy: nothing
// could be opened), a file on a network file system, or when the user's inotify watches are used up, only the net is there.
//
// Privileged: whoever may read the file decides how often it is closed; hintsPerPoll bounds what that costs us.
func (w *Waiter) Wait(ctx context.Context, f *File, try func() (done bool)) error {
	hint := make(chan struct{}, 1)
	watched := w.watch(f, hint)
	defer func() { w.unwatch(watched, hint) }()

	began := time.Now()
	interval, hints := w.net, 0
	poll := time.NewTimer(jitter(interval))
	defer poll.Stop()
	again := time.NewTimer(secondLook)
	defer again.Stop()
	again.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if try() {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-w.closed:
			return os.ErrClosed
		case <-hint:
			if hints++; hints > hintsPerPoll {
				w.unwatch(watched, hint)
				watched = nil
			}
			again.Reset(secondLook)
		case <-again.C:
		case <-poll.C:
			if time.Since(began) > netEager {
				interval = longer(interval)
			}
			poll.Reset(jitter(interval))
			if hints = 0; watched == nil {
				watched = w.watch(f, hint)
			}
		}
	}
}

func longer(d time.Duration) time.Duration { return min(d*3/2, netLongest) }

// jitter keeps the heads of many queues from polling in step: up to a tenth either way.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5)
}
