package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"locker/client"
)

// patient says how a request waits.
type patient int

const (
	forever patient = iota
	timed
	notAtAll
	fickle // until the client thinks better of it
)

// wish is what a worker wants next.
type wish struct {
	word
	set    []int
	shared bool
	wait   patient
	most   time.Duration // timed, fickle
	asked  int64
}

// think chooses what to ask for, and reserves the files of an attached lock.
func (w *worker) think() wish {
	r := w.random
	var free []int
	for f := range files {
		if w.side == nil || !slices.Contains(w.side.set, f) {
			free = append(free, f)
		}
	}
	n := 1
	if r.IntN(8) == 0 {
		n = 2 + r.IntN(setMost-1)
	}
	r.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	x := wish{set: free[:min(n, len(free))], shared: r.IntN(4) == 0, most: upTo(r, w.Mix.Wait)}
	switch p := r.IntN(100); {
	case p < 45 && w.side == nil: // who has something may not wait for ever: two could wait for each other
		x.wait = forever
	case p < 70:
		x.wait = timed
	case p < 85:
		x.wait = notAtAll
	default:
		x.wait = fickle
	}
	detached := r.IntN(4) == 0
	if !detached && !w.reserve(x.set) {
		detached = true
	}
	w.serial++
	x.word = makeWord(w.owner, w.Life, w.serial, detached)
	return x
}

// refused sorts the answers that a wish may get from those that it may not.
func (w *worker) refused(x wish, err error) {
	switch code := client.CodeOf(err); {
	case w.stop.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
	case x.wait == fickle && errors.Is(err, context.DeadlineExceeded):
		w.add(cancels)
	case errors.Is(err, context.DeadlineExceeded):
		w.fault(eventStuck, x.set[0], x.word, 0, x.asked, fmt.Sprintf("no answer in %v", patience))
	case code == client.CodeTimeout && x.wait == timed:
		w.add(timeouts)
	case code == client.CodeBusy && x.wait == notAtAll:
		w.add(busies)
	case code == client.CodeDeadlock:
		w.add(deadlocks) // the workers of one connection are one owner, who may hold one file and wait for another
	case code == client.CodeBusy || code == client.CodeUnavailable:
		w.add(refusals)
		w.once(err.Error())
	default:
		w.fault(eventError, x.set[0], x.word, 0, x.asked, fmt.Sprintf("lock: %v", err))
	}
}
