package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"

	"locker/client"
)

// patience is how long anybody waits for what must come; only a failing run needs it.
const patience = time.Minute

// process is one client process.
type process struct {
	part
	m       *memory
	events  *notebook
	history *os.File
	c       *client.Client
	stop    context.Context // ends when all shall let go

	mu    sync.Mutex // guards what follows
	taken [files]bool
	said  map[string]bool
}

// clientMain locks and unlocks until it is told to stop, or is killed.
func clientMain(p part) error {
	m, err := mapMemory(p.Memory)
	if err != nil {
		return err
	}
	x := &process{part: p, m: m, said: map[string]bool{}}
	if x.events, err = openNotebook(m, p.Events); err != nil {
		return err
	}
	if x.history, err = openAppend(p.History); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	x.stop = ctx
	dialing, done := context.WithTimeout(context.Background(), patience)
	defer done()
	if x.c, err = client.Dial(dialing, p.Socket); err != nil {
		return fmt.Errorf("dial: %w", err) // the listening socket is there all the time
	}
	defer x.c.Close()
	var work sync.WaitGroup
	work.Go(func() { // ends when the memory says so
		defer cancel()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for m.stop.Load() == 0 {
			<-tick.C
		}
	})
	x.inherit()
	for i := range workers {
		w := &worker{
			process: x, owner: p.Slot*workers + i,
			random: rand.New(rand.NewPCG(p.Seed, uint64(p.Slot)<<48|uint64(i)<<32|uint64(p.Life))),
		}
		work.Go(w.run)
	}
	work.Go(x.tidy)
	work.Wait()
	return nil
}

// inherit takes over what the former lives of this client have left: detached holds, which outlive them, and must be there.
func (x *process) inherit() {
	for f := range files {
		s := &x.m.file[f]
		words := []word{word(s.exclusive.Load())}
		for i := range s.shared {
			words = append(words, word(s.shared[i].Load()))
		}
		for _, w := range words {
			if w == 0 || w.slot() != x.Slot || w.life() >= x.Life {
				continue
			}
			token, since := s.token[w.owner()].Load(), s.since[w.owner()].Load()
			if !w.detached() {
				x.m.giveBack(f, w) // it ended with its client
				continue
			}
			x.m.counts[x.Slot][inherited].Add(1)
			n := note{Moment: givenUp, Who: w, At: now(), N: 1, Files: [setMost]uint8{uint8(f)}, Tokens: [setMost]uint64{token}}
			x.note(n)
			x.m.giveBack(f, w)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			found, err := x.c.UnlockID(ctx, token)
			cancel()
			switch {
			case err != nil:
				x.fault(eventError, f, w, token, since, fmt.Sprintf("unlock what a killed client has left: %v", err))
			case !found:
				x.fault(eventMissing, f, w, token, since, "the detached hold of a killed client was not there any more")
			}
			n.Moment, n.At = released, now()
			x.note(n)
		}
	}
	x.sweep()
}

// tidy ends, now and then, what a former life asked for and was granted only after its death.
func (x *process) tidy() {
	tick := time.NewTicker(400 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			x.sweep()
		case <-x.stop.Done():
			return
		}
	}
}

func (x *process) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rows, err := x.c.List(ctx, false)
	if err != nil {
		x.fault(eventError, 0, 0, 0, now(), fmt.Sprintf("list: %v", err))
		return
	}
	for _, r := range rows {
		w, ok := wordOfTag(r.Tag)
		if !ok || w.slot() != x.Slot || w.life() >= x.Life {
			continue
		}
		if _, err := x.c.UnlockTag(ctx, r.Tag); err != nil {
			x.fault(eventError, 0, w, r.ID, now(), fmt.Sprintf("unlock a tag: %v", err))
		}
	}
}

func (x *process) note(n note) {
	n.PID = int32(os.Getpid())
	if _, err := x.history.Write(n.append(make([]byte, 0, noteSize))); err != nil {
		panic(err)
	}
}

func (x *process) fault(kind string, f int, w word, token uint64, since int64, text string) {
	if kind == eventStuck || kind == eventError {
		buf := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%v: %s\n%s\n", w, text, buf[:runtime.Stack(buf, true)])
	}
	x.events.write(event{Kind: kind, At: now(), Since: since, File: f, Mine: w, Token: token, Text: text})
}

// once reports a text that is no fault the first time that it comes.
func (x *process) once(text string) {
	x.mu.Lock()
	fresh := !x.said[text]
	x.said[text] = true
	x.mu.Unlock()
	if fresh {
		x.fault(eventRefused, 0, 0, 0, now(), text)
	}
}

// reserve keeps the other workers of this process off the files: all attached holds of a connection have the same owner, to whom
// a second request would say "already".
func (x *process) reserve(set []int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range set {
		if x.taken[f] {
			return false
		}
	}
	for _, f := range set {
		x.taken[f] = true
	}
	return true
}

func (x *process) free(set []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range set {
		x.taken[f] = false
	}
}
