package audit

import (
	"sync"
	"time"
)

const (
	flushAfter = 40 * time.Millisecond  // from the first record that nobody waits for to its fdatasync
	lookEvery  = time.Second            // whether the file is still there, when nothing is written
	retryEvery = 500 * time.Millisecond // a spare, or the whole log, after an error
)

// background is the two goroutines of a log: one brings to disk what nobody waits for, one keeps a spare segment
// at hand. Making one takes as long as the disk likes; flushing must not wait for it.
type background struct {
	dirty, spare chan struct{} // one place each: a signal that finds it taken is not needed
	stop         chan struct{}
	done         sync.WaitGroup
}

func (b *background) start(l *Log) {
	b.dirty, b.spare = make(chan struct{}, 1), make(chan struct{}, 1)
	b.stop = make(chan struct{})
	b.done.Go(func() { l.flushAlways() })
	b.done.Go(func() { l.provideAlways() })
}

// end stops both and waits for them.
func (b *background) end() {
	close(b.stop)
	b.done.Wait()
}

func (b *background) wantSpare() {
	select {
	case b.spare <- struct{}{}:
	default:
	}
}

// wake tells the flusher that there is something to bring to disk, once until it has done so.
func (l *Log) wake() {
	if l.dirty {
		return
	}
	l.dirty = true
	select {
	case l.work.dirty <- struct{}{}:
	default:
	}
}

func (l *Log) flushAlways() {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		timer.Reset(lookEvery)
		select {
		case <-l.work.stop:
			return
		case <-l.work.dirty:
			timer.Reset(flushAfter)
			select {
			case <-l.work.stop:
				return
			case <-timer.C:
			}
		case <-timer.C:
		}
		l.flush()
	}
}

// flush brings all that was appended to disk, and looks whether the file is still there even if there was
// nothing.
func (l *Log) flush() {
	l.mu.Lock()
	l.dirty = false
	seq := l.seq
	if seq == l.synced && l.failed == nil {
		l.becomeSyncer()
		l.sync()
		l.giveSyncer()
		if cap(l.unsynced)+cap(l.taken) > 1<<20 && !l.writing {
			l.unsynced, l.taken = append([]byte(nil), l.unsynced...), nil // grown in a rush that is over
		}
	}
	if l.failed == nil && l.cur.bad != nil {
		l.becomeWriter()
		l.write()
		l.giveWriter()
	}
	l.mu.Unlock()
	_ = l.Commit(seq, true) // who waits for a record hears of an error by himself
}

func (l *Log) provideAlways() {
	for {
		l.mu.Lock()
		trouble := l.failed != nil || l.spareErr != nil
		l.mu.Unlock()
		var retry <-chan time.Time
		if trouble {
			retry = time.After(retryEvery)
		}
		select {
		case <-l.work.stop:
			return
		case <-l.work.spare:
			if trouble {
				continue // only as often as retryEvery says
			}
		case <-retry:
		}
		l.mu.Lock()
		if !l.spareFits() {
			l.provide()
		}
		if l.failed != nil && l.spareErr == nil {
			l.becomeWriter()
			if l.failed != nil {
				l.repair(nil)
			}
			l.giveWriter()
		}
		l.mu.Unlock()
	}
}
