package keeper

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Put hands the keeper copies of an entry's descriptors, with one sendmsg(2) that never blocks, and waits for no answer: once
// it returns nil, they are in the queue, and that is as good as kept. An entry with the same ID is replaced.
//
// ErrFull: nothing was sent, and the keeper has no room (ErrNoRoom) or is behind. ErrGone: the keeper has ended.
func (c *Conn) Put(e Entry) error {
	if Seeded("no-put") {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(&e)
}

// put is called with mu held.
func (c *Conn) put(e *Entry) error {
	if len(e.Blob) > MaxBlob {
		return fmt.Errorf("keep entry %d: a blob of %d bytes; at most %d", e.ID, len(e.Blob), MaxBlob)
	}
	_, again := c.kept[e.ID]
	if !again && len(c.kept) >= c.room {
		if err := c.flush(); err != nil {
			return err
		}
		return ErrNoRoom
	}
	if err := c.send(&message{kind: kindPut, id: e.ID, blob: e.Blob}, e.Lock, e.Holder); err != nil {
		return err
	}
	c.kept[e.ID] = struct{}{}
	return nil
}

// Set changes the blob of an entry that is kept. It never blocks. ErrFull: nothing was sent. ErrGone: the keeper has ended.
func (c *Conn) Set(id uint64, blob []byte) error {
	if len(blob) > MaxBlob {
		return fmt.Errorf("keep entry %d: a blob of %d bytes; at most %d", id, len(blob), MaxBlob)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send(&message{kind: kindSet, id: id, blob: blob}, -1, -1)
}

// Drop makes the keeper close its copies of an entry. It never blocks, and as long as the connection lives it is not lost: what
// the queue does not take is sent before anything else.
func (c *Conn) Drop(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	delete(c.kept, id)
	if err := c.send(&message{kind: kindDrop, id: id}, -1, -1); err == errQueue || err == errCrowded {
		c.unsent = append(c.unsent, id)
		c.awaitWritable()
	}
}

// Forget makes the keeper close all its copies, and call no list complete before the next Sync. It waits while the keeper is behind.
func (c *Conn) Forget(ctx context.Context) error {
	return c.wait(ctx, func() error {
		clear(c.kept)
		return c.send(&message{kind: kindForget}, -1, -1)
	})
}

// Sync returns when the keeper has taken everything that was sent before: then it is alive, and keeps it. That a keeper has
// accepted a connection and bytes says nothing of the sort: one that dies of SIGKILL still does, for milliseconds.
func (c *Conn) Sync(ctx context.Context) error {
	if Seeded("no-sync") {
		return nil
	}
	synced := make(chan struct{})
	c.mu.Lock()
	c.lastSync++
	number := c.lastSync
	c.syncs[number] = synced
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.syncs, number)
		c.mu.Unlock()
	}()
	if err := c.wait(ctx, func() error { return c.send(&message{kind: kindSync, number: number}, -1, -1) }); err != nil {
		return err
	}
	select {
	case <-synced:
		return nil
	case <-c.gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-synced: // it was the last it said
		return nil
	default:
		return c.ended()
	}
}

// send is called with mu held. The error is nil, errQueue, errCrowded, ErrGone or about the descriptors.
func (c *Conn) send(m *message, lock, holder int) error {
	if c.closed {
		return ErrGone
	}
	if err := c.flush(); err != nil {
		return err
	}
	return c.told(c.out.send(m, lock, holder))
}

// flush sends the Drops that had no room. Whoever sends anything does this first, so that nothing overtakes them. The caller
// holds mu.
func (c *Conn) flush() error {
	for i, id := range c.unsent {
		if err := c.told(c.out.send(&message{kind: kindDrop, id: id}, -1, -1)); err != nil {
			c.unsent = append(c.unsent[:0], c.unsent[i:]...)
			return err
		}
	}
	c.unsent = nil
	return nil
}

// told says what an error of sendmsg(2) means.
func (c *Conn) told(err error) error {
	switch err {
	case nil:
		return nil
	case unix.EAGAIN:
		return errQueue
	case unix.ETOOMANYREFS, unix.ENOBUFS, unix.ENOMEM:
		return errCrowded
	case unix.EPIPE, unix.ECONNRESET, unix.ENOTCONN:
		return ErrGone
	}
	if _, ok := err.(unix.Errno); ok {
		return fmt.Errorf("send to the keeper: %w", err) // EBADF: a descriptor that is none
	}
	return ErrGone // of RawConn: the connection is closed
}

// pauseCrowded waits before one tries again who was told ETOOMANYREFS.
func pauseCrowded(ctx context.Context) error {
	over := time.NewTimer(crowdedPause)
	defer over.Stop()
	select {
	case <-over.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
