package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// story is a conversation in which everything occurs that can be cut off; it fails unless it goes as it would without any
// death of lockerd.
func story(t *testing.T, m *mortal, c *Client) error {
	ctx := t.Context()
	// What a request for an own lock, a set and a detached lock gives is held, once, under the token that is told.
	own, err := c.Lock(ctx, Request{Paths: []string{"/own"}})
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	set, err := c.Lock(ctx, Request{Paths: []string{"/set1", "/set2"}, Detached: true})
	if err != nil {
		return fmt.Errorf("lock a set: %w", err)
	}
	for path, token := range map[string]uint64{"/own": own.Token(), "/set1": set.Tokens()[0], "/set2": set.Tokens()[1]} {
		if got := m.tokens(path); !slices.Equal(got, []uint64{token}) {
			return fmt.Errorf("%s is held under %v, want %d", path, got, token)
		}
	}
	// A lock that waits is granted when its turn comes.
	m.block("/queued")
	waits := startLock(ctx, c, Request{Paths: []string{"/queued"}})
	synctest.Wait()
	m.free("/queued")
	queued := <-waits
	if queued.err != nil {
		return fmt.Errorf("lock what was in use: %w", queued.err)
	}
	// One that is given up is not held, and not waited for.
	m.block("/given up")
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := c.Lock(short, Request{Paths: []string{"/given up"}}); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("lock and give up: %w", err)
	}
	m.free("/given up")
	// A watch looks at least once, a list is whole, and neither ends.
	enough := errors.New("enough")
	err = c.Watch(ctx, func() error {
		rows, err := c.List(ctx, true)
		if err == nil && len(rows) != 3 {
			err = fmt.Errorf("%d rows, want 3", len(rows))
		}
		if err == nil {
			err = enough
		}
		return err
	})
	if err != enough {
		return fmt.Errorf("watch and list: %w", err)
	}
	if _, err := c.Status(ctx); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	// What is released is free, and nothing was lost on the way.
	for name, l := range map[string]*Lock{"own": own, "set": set, "queued": queued.value} {
		if err := l.Unlock(ctx); err != nil {
			return fmt.Errorf("unlock %s: %w", name, err)
		}
		if loss, ok := <-l.Lost(); ok {
			return fmt.Errorf("%s: %w", name, loss)
		}
	}
	return nil
}

// tokens gives the ids of the holds on path.
func (m *mortal) tokens(path string) (ids []uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.holds {
		if i := slices.Index(h.paths, path); i >= 0 {
			ids = append(ids, h.ids[i])
		}
	}
	return ids
}

// tell runs the story with a lockerd of that life and its successors of that span, and gives how many have died.
func tell(t *testing.T, life, span int) (deaths, spent int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMortal(t, life, span)
		c, err := Dial(t.Context(), "mortal", at(m.open))
		if err != nil {
			t.Errorf("life %d, then %d: Dial: %v", life, span, err)
			return
		}
		if err := story(t, m, c); err != nil {
			t.Errorf("life %d, then %d: %v", life, span, err)
		}
		<-time.After(time.Second) // virtual: what was given up is given back, however slowly
		synctest.Wait()
		granted, held, waiting := m.state()
		if len(held) > 0 || len(waiting) > 0 {
			t.Errorf("life %d, then %d: left over: %q held, %q waiting", life, span, held, waiting)
		}
		for path, n := range granted {
			if n != 1 && path != "/given up" {
				t.Errorf("life %d, then %d: %s was granted %d times", life, span, path, n)
			}
		}
		if n := pending(c); n > 0 || len(c.holds) > 0 {
			t.Errorf("life %d, then %d: left over: %d calls, holds %v", life, span, n, c.holds)
		}
		c.Close()
		m.work.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		deaths, spent = m.deaths, life-m.life
	})
	return deaths, spent
}

func TestNoByteIsTheWrongOneToDieAfter(t *testing.T) {
	const enough = 1 << 20
	deaths, whole := tell(t, enough, enough)
	if deaths != 0 || whole < 400 {
		t.Fatalf("without a death: %d deaths, %d bytes", deaths, whole)
	}
	for life := 1; life <= whole && !t.Failed(); life++ {
		if deaths, _ := tell(t, life, enough); deaths != 1 && life < whole-20 { // the last frames come in any order
			t.Errorf("life %d: %d deaths", life, deaths)
		}
	}
}

func TestAServerThatDiesAgainAndAgainLosesNothing(t *testing.T) {
	total := 0
	for span := 520; span < 720 && !t.Failed(); span++ { // less would not do for the greetings and a whole list
		deaths, _ := tell(t, span, span)
		total += deaths
	}
	if total < 200 {
		t.Errorf("%d deaths only", total)
	}
}
