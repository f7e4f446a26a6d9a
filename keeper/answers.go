package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"
)

// listing is a List under way.
type listing struct {
	entries []Entry // their descriptors are the caller's of List from when done is closed, and ours before
	past    Past
	done    chan struct{}
}

// List gives all entries, in ascending order of IDs, with descriptors that are the caller's and close-on-exec. From then on Put
// counts them.
//
// One that ends with an error leaves a connection that has ended, too.
func (c *Conn) List(ctx context.Context) ([]Entry, Past, error) {
	l := &listing{done: make(chan struct{})}
	c.mu.Lock()
	if c.listing != nil {
		c.mu.Unlock()
		return nil, Past{}, errors.New("list the keeper's entries: a list is under way")
	}
	c.listing = l
	c.mu.Unlock()
	err := c.wait(ctx, func() error { return c.send(&message{kind: kindList}, -1, -1) })
	if err == nil {
		select {
		case <-l.done:
			return l.entries, l.past, nil
		case <-c.gone:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	// The answers that still come would be taken for those of the next List.
	c.conn.Close()
	<-c.gone
	c.mu.Lock()
	c.listing = nil
	c.mu.Unlock()
	select {
	case <-l.done: // it was the last that the keeper said
		if err == nil {
			return l.entries, l.past, nil
		}
	default:
	}
	for _, e := range l.entries {
		closeBoth(e)
	}
	if err == nil {
		err = c.ended()
	}
	return nil, Past{}, fmt.Errorf("list the keeper's entries: %w", err)
}

func closeBoth(e Entry) {
	for _, fd := range []int{e.Lock, e.Holder} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// ended says how the connection has ended.
func (c *Conn) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return fmt.Errorf("%w: %w", ErrGone, c.cause)
	}
	return ErrGone
}

// read takes what the keeper says until one of the two ends the connection.
func (c *Conn) read(in *receiver) {
	defer close(c.gone)
	defer c.conn.Close()
	for {
		if err := in.receive(); err != nil {
			if err == io.EOF {
				err = nil
			}
			c.setCause(err)
			return
		}
		if err := c.take(in); err != nil {
			for _, fd := range in.rights {
				unix.Close(fd)
			}
			c.setCause(err)
			return
		}
	}
}

func (c *Conn) setCause(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cause = err
}

// take does what one message says. If it gives an error, the message's descriptors are still to be closed.
func (c *Conn) take(in *receiver) error {
	if in.cut {
		return errors.New("descriptors were lost: too many open files")
	}
	var m message
	if err := parseMessage(in.packet, &m); err != nil {
		return err
	}
	if m.rights() != len(in.rights) {
		return errors.New("a message with another number of descriptors than it says")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.kind {
	case kindEntry:
		if c.listing == nil {
			return errors.New("an entry that nobody asked for")
		}
		e := Entry{ID: m.id, Blob: slices.Clone(m.blob), Lock: -1, Holder: -1}
		rights := in.rights
		if m.set&withLock != 0 {
			e.Lock, rights = rights[0], rights[1:]
		}
		if m.set&withHolder != 0 {
			e.Holder = rights[0]
		}
		c.listing.entries = append(c.listing.entries, e)
	case kindEnd:
		l := c.listing
		if l == nil || len(l.entries) != int(m.count) {
			return errors.New("the end of another list")
		}
		l.past = Past{Complete: m.set&isComplete != 0, Highest: m.highest, Room: int(m.room)}
		c.room = l.past.Room
		for _, e := range l.entries {
			c.kept[e.ID] = struct{}{}
		}
		c.listing = nil
		close(l.done)
	case kindSynced:
		// One that was given up is in it no more.
		if synced := c.syncs[m.number]; synced != nil {
			close(synced)
			delete(c.syncs, m.number)
		}
	default:
		return errors.New("a message that only brokers send")
	}
	return nil
}
