package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"locker/client"
)

// worker asks for one lock after the other.
type worker struct {
	*process
	owner  int
	random *rand.Rand
	serial uint32
	side   *hold // a detached one that is kept while others are asked for
}

// hold is a granted wish.
type hold struct {
	wish
	lock   *client.Lock
	tokens []uint64
	since  int64
	until  time.Time // of the side hold
}

func fileName(f int) string { return fmt.Sprintf("file-%d", f) }

func (w *worker) paths(set []int) (paths []string) {
	for _, f := range set {
		paths = append(paths, filepath.Join(w.Files, fileName(f)))
	}
	return paths
}

func (w *worker) run() {
	for w.stop.Err() == nil {
		w.turn()
		w.pause(upTo(w.random, w.Mix.Think))
	}
	if w.side != nil {
		w.release(w.side)
	}
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// pause waits, unless it is time to stop.
func (w *worker) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.stop.Done():
	}
}

// turn asks once, holds what it gets, and lets go, or keeps it beside the next turns.
func (w *worker) turn() {
	if w.side != nil && time.Now().After(w.side.until) {
		w.release(w.side)
		w.side = nil
	}
	h := w.ask(w.think())
	if h == nil {
		return
	}
	if h.detached() && w.side == nil && w.random.IntN(3) == 0 {
		h.until = time.Now().Add(3 * upTo(w.random, w.Mix.Hold))
		w.side = h
		return
	}
	w.keep(h)
	w.release(h)
}

// ask sends the wish; nil: it was not granted.
func (w *worker) ask(x wish) *hold {
	q := client.Request{Paths: w.paths(x.set), Mode: client.Exclusive}
	queued := false
	q.OnQueued = func(client.Queue) { queued = true }
	if x.shared {
		q.Mode = client.Shared
	}
	if x.detached() {
		q.Detached, q.Tag = true, x.tag()
	}
	ctx, cancel := context.WithTimeout(w.stop, patience)
	switch x.wait {
	case timed:
		q.Timeout = x.most + 1
	case notAtAll:
		q.NoWait = true
	case fickle:
		cancel()
		ctx, cancel = context.WithTimeout(w.stop, x.most)
	}
	defer cancel()
	x.asked = now()
	lock, err := w.c.Lock(ctx, q)
	since := now()
	if queued {
		w.add(waited)
	}
	if err != nil {
		w.refused(x, err)
		if !x.detached() {
			w.free(x.set)
		}
		return nil
	}
	h := &hold{wish: x, lock: lock, tokens: lock.Tokens(), since: since}
	w.enter(h)
	return h
}

func (w *worker) add(c count) { w.m.counts[w.Slot][c].Add(1) }

// enter writes the grant down, and looks whether it can be true.
func (w *worker) enter(h *hold) {
	w.add(grants)
	if h.shared {
		w.add(grantsShared)
	}
	if h.detached() {
		w.add(grantsDetached)
	}
	if len(h.set) > 1 {
		w.add(grantsSet)
	}
	for i, f := range h.set {
		for _, e := range w.m.claim(f, h.word, h.tokens[i], h.shared, h.since) {
			w.events.write(e)
		}
		if h.lock.Holds()[i].Already {
			w.fault(eventAlready, f, h.word, h.tokens[i], h.asked, "granted as if we had had it already")
		}
	}
	w.note(h.note(granted, h.since))
}

func (h *hold) note(m moment, at int64) note {
	n := note{Moment: m, Shared: h.shared, Who: h.word, From: h.asked, At: at, N: len(h.set)}
	for i, f := range h.set {
		n.Files[i], n.Tokens[i] = uint8(f), h.tokens[i]
	}
	return n
}

// keep holds it for a while; who is told that it is lost lets go at once.
func (w *worker) keep(h *hold) {
	t := time.NewTimer(upTo(w.random, w.Mix.Hold))
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.stop.Done():
	case loss, told := <-h.lock.Lost():
		if told {
			w.told(h, loss)
		}
	}
}

func (w *worker) told(h *hold, loss client.Loss) {
	i := max(0, slices.Index(h.tokens, loss.Token))
	w.fault(eventLoss, h.set[i], h.word, loss.Token, h.since, loss.Error())
}

// release gives it back in one of the ways that there are.
func (w *worker) release(h *hold) {
	begun := now()
	w.note(h.note(givenUp, begun))
	for _, f := range h.set {
		w.m.giveBack(f, h.word)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	ids, named := []uint64(nil), true
	switch p := w.random.IntN(10); {
	case p < 7:
		err, named = h.lock.Unlock(ctx), false
	case h.detached(): // not by path: that would mean an attached hold of this connection too
		ids, err = w.c.UnlockTag(ctx, h.tag())
	default:
		ids, err = w.c.UnlockPaths(ctx, "", w.paths(h.set)...)
	}
	select {
	case loss, told := <-h.lock.Lost():
		if told {
			w.told(h, loss)
		}
	default:
	}
	switch {
	case client.CodeOf(err) == client.CodeLost:
		w.fault(eventMissing, h.set[0], h.word, h.tokens[0], h.since, err.Error())
	case err != nil:
		w.fault(eventError, h.set[0], h.word, h.tokens[0], begun, fmt.Sprintf("unlock: %v", err))
	case named:
		for i, token := range h.tokens {
			if !slices.Contains(ids, token) {
				w.fault(eventUnsaid, h.set[i], h.word, token, begun, "unlocked by path or tag, and not named in the answer")
			}
		}
	}
	w.note(h.note(released, now()))
	if !h.detached() {
		w.free(h.set)
	}
}
