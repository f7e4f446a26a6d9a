package torture

import (
	"context"
	"fmt"
	"path/filepath"

	"locker/client"
)

// The quiet locks are held from the beginning of a round to its end: whatever happens, they must not be lost, and all of them have to be
// sent to each new keeper.

func quietWord(i int) word { return makeWord(owners-1, 1, uint32(i+1), true) }

// settle takes n of them.
func (r *run) settle(n int) error {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	c, err := client.Dial(ctx, r.socket)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.Close()
	events, err := openNotebook(r.m, r.events)
	if err != nil {
		return err
	}
	defer events.f.Close()
	for i := range n {
		f, w := files+i, quietWord(i)
		lock, err := c.Lock(ctx, client.Request{Paths: []string{filepath.Join(r.files(), fileName(f))}, Detached: true, Tag: w.tag()})
		if err != nil {
			return fmt.Errorf("take a quiet lock: %w", err)
		}
		for _, e := range r.m.claim(f, w, lock.Token(), false, now()) {
			events.write(e)
		}
	}
	return nil
}

// unsettle lets go of them, which must all be there.
func (r *run) unsettle(n int) error {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	c, err := client.Dial(ctx, r.socket)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.Close()
	for i := range n {
		f, w := files+i, quietWord(i)
		token := r.m.file[f].token[w.owner()].Load()
		r.m.giveBack(f, w)
		if found, err := c.UnlockID(ctx, token); err != nil || !found && !r.log.lost(token) {
			return fmt.Errorf("%s: the quiet lock, token %d, is not there at the end of the round: %v, %v", fileName(f), token, found, err)
		}
	}
	return nil
}
