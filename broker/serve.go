package broker

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"locker/audit"
	"locker/keeper"
)

// Serve accepts and serves clients until ctx is done or the listener fails; then it drains: waiting claims are refused,
// attached holds get their grace, and every session is ended before it returns. Detached holds stay in the log, to be
// taken back by the next New. After HandOver it does nothing of the kind: it leaves everything to the next broker. It closes the
// listener.
func (b *Broker) Serve(ctx context.Context, l *net.UnixListener) error {
	// Work outlives ctx: draining still releases, records and answers.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	keeping, stopTime := context.WithCancel(work)
	defer stopTime()
	var timekeeper, deathwatch sync.WaitGroup
	timekeeper.Go(func() { b.keepTime(work, keeping) })
	deathwatch.Go(func() { b.deaths.watch(func(id uint64) { b.died(work, id) }) })
	if b.keeping.wanted {
		timekeeper.Go(func() { b.mindKeeper(keeping) })
	}

	var lookouts sync.WaitGroup // apart: they walk paths and read directories, which hangs where a disk does
	lookouts.Go(func() { b.mindChanges(keeping) })
	if b.dialGuard != nil {
		lookouts.Go(func() { b.mindGuard(keeping) })
	}

	stopAccept := context.AfterFunc(ctx, func() { l.Close() })
	keeper.Step("start.accepting")
	var sessions sync.WaitGroup
	err := b.acceptAll(ctx, work, l, &sessions)
	stopAccept()
	l.Close()

	if b.giving.Load() && b.keeping.wanted {
		stopTime() // no lease ends, and no keeper is looked for, while we leave
		timekeeper.Wait()
		waitAtMost(&lookouts, handPatience)
		err = errors.Join(err, b.handOver())
	} else {
		b.drain(work)
	}
	patience := stopPatience
	if b.handed.Load() {
		patience = handPatience
	}
	quiet := waitAtMost(&sessions, patience)
	stopTime() // before work is waited for: the end of a lease starts work
	timekeeper.Wait()
	if b.handed.Load() {
		stopWork() // whoever waits would wait on
	}
	quiet = waitAtMost(&lookouts, patience) && quiet
	quiet = waitAtMost(&b.work, patience) && quiet
	stopWork()
	b.deaths.close()
	deathwatch.Wait()
	if !b.handed.Load() {
		err = errors.Join(err, b.recordStop())
		b.unkeepAll(context.WithoutCancel(ctx))
	}
	switch {
	case !quiet && b.handed.Load():
		return err // nothing is left to be done in order: the process ends, and what hangs with it
	case !quiet:
		return errors.Join(err, errors.New("stopped, though a call on a file system still hangs"))
	}
	b.release()
	return err
}

// HandOver has Serve, once its context is done, leave everything to the next broker: nobody is told anything, no lock is let go and
// no place in a queue is lost. Without a keeper it means nothing.
func (b *Broker) HandOver() { b.giving.Store(true) }

// handOver stops as a crash would, but for the record that says so: whatever is under way is either answered by now, or will be
// asked again of the next broker. From the moment when handed is set nothing is answered, recorded, granted or dropped any more.
func (b *Broker) handOver() error {
	b.reloading.Lock() // a reload under way records first
	defer b.reloading.Unlock()
	b.mu.Lock()
	b.recordAllSuppressed()
	seq, err := b.log.Append(&audit.Record{Event: audit.EventStop, PID: int32(selfPID()), Text: "handed over"})
	b.stopped = true
	b.handed.Store(true)
	if b.keeping.conn != nil {
		b.keeping.conn.Close()
	}
	sessions := make([]*session, 0, len(b.sessions))
	for _, s := range b.sessions {
		sessions = append(sessions, s)
		if s.die != nil {
			s.die()
		}
		for _, r := range s.requests {
			if r.cancel != nil {
				r.cancel()
			}
		}
	}
	b.mu.Unlock()
	for _, s := range sessions {
		if s.conn != nil {
			s.conn.Close()
		}
	}
	if err != nil {
		return err
	}
	return b.log.Commit(seq, true)
}

// stopPatience is how long stopping waits for work that should end at once, and does not only where a file system hangs.
const stopPatience = 20 * time.Second

// handPatience is the same for a hand-over, which clients wait for.
const handPatience = 2 * time.Second

// waitAtMost waits for wg; false if that took too long. Then a goroutine is left that waits on, in a process that ends.
func waitAtMost(wg *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case <-done:
		return true
	case <-over.C:
		return false
	}
}

// unkeepAll has the keeper let go of what is left, detached locks: it may run on, and locks are not to. The next start claims them again
// by the log, since after Forget nothing says that they were given up, and a start that does not get so far changes nothing about that.
func (b *Broker) unkeepAll(ctx context.Context) {
	b.mu.Lock()
	conn := b.keeping.conn
	b.mu.Unlock()
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handPatience)
	defer cancel()
	if err := conn.Forget(ctx); err != nil {
		b.logger.Debug("the keeper is not told to let go", "error", err) // it has gone, and with it what it had
	}
}

// recordStop writes the last record of a clean stop.
func (b *Broker) recordStop() error {
	b.reloading.Lock() // a reload under way records first
	defer b.reloading.Unlock()
	b.mu.Lock()
	b.recordAllSuppressed()
	b.stopped = true
	seq, err := b.log.Append(&audit.Record{Event: audit.EventStop, PID: int32(selfPID())})
	b.mu.Unlock()
	if err != nil {
		return err
	}
	return b.log.Commit(seq, true)
}
