package broker

import (
	"context"
	"errors"
	"sync"
	"time"
)

// To look through a bundle takes half a second for 100,000 bands, and whoever may lock it may have it looked through as often as he
// likes. So one uid has looksUID of them at once, and looks take one part in lookShare of a processor for him, in the long run.
const (
	looksUID  = 2
	looksAll  = 16
	lookShare = 5

	// For its turn, and for the pause, of a claim that has the locks. It does not hold the files yet, and must not keep others from them.
	lastPatience = 500 * time.Millisecond
)

var errManyLooks = errors.New("too many of your bundles are being looked through at this moment")

// looks says from when on, by the boot clock, each uid may look again. Who may do so at once is not in it.
type looks struct {
	mu   sync.Mutex // guards all below
	from map[uint32]time.Duration
}

// pause is how long uid has to wait.
func (l *looks) pause(uid uint32, now time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.from[uid]-now)
}

// took charges uid for a look.
func (l *looks) took(uid uint32, now, cost time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from == nil {
		l.from = map[uint32]time.Duration{}
	}
	for other, from := range l.from { // as many uids as have looked within a pause of theirs
		if from <= now {
			delete(l.from, other)
		}
	}
	l.from[uid] = max(l.from[uid], now) + (lookShare-1)*cost
}

// enterLook waits for the uid's pause to be over, and for a slot to look through bundles, at most patience for each step (0: for ever).
func (b *Broker) enterLook(ctx context.Context, a *account, patience time.Duration) bool {
	if !a.looks.acquire(ctx, patience) {
		return false
	}
	if b.restFromLooks(ctx, a.uid, patience) && b.gates.looks.acquire(ctx, patience) {
		return true
	}
	a.looks.release()
	b.gaveBack(a)
	return false
}

// restFromLooks waits until the uid may look again; false: it is not worth waiting with that patience, or ctx has ended.
func (b *Broker) restFromLooks(ctx context.Context, uid uint32, patience time.Duration) bool {
	pause := b.looks.pause(uid, b.boot())
	if pause == 0 {
		return true
	}
	if patience > 0 && pause > patience {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *Broker) leaveLook(a *account) {
	a.leave(b, &a.looks, &b.gates.looks)
}
