package guard

import "context"

// Event is something that the guard says unasked.
type Event struct {
	// FailedOpen is why everybody was let in, for a moment that ended now; "" for an event that tells of refusals.
	FailedOpen string
	Guarded    bool // all that was guarded before it failed is guarded again; if not, the connection ends

	// Count opens by a program of the deny list were refused since the last event with the same ID and Executable.
	ID         uint64 // 0: it can no longer be told below which
	PID        int32  // the last that was refused
	Executable string // as in the deny list; "" where the guard could but count
	Count      uint32
}

// Next waits for an event. After the last of a connection that has ended it gives ErrGone.
func (c *Conn) Next(ctx context.Context) (Event, error) {
	for {
		gone := false
		select {
		case <-c.gone: // looked at before the events: after it there come none
			gone = true
		default:
		}
		if e, ok := c.takeEvent(); ok {
			return e, nil
		}
		if gone {
			return Event{}, ErrGone
		}
		select {
		case <-c.more:
		case <-c.gone:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

func (c *Conn) takeEvent() (Event, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.events) == 0 {
		return Event{}, false
	}
	e := c.events[0]
	c.events = c.events[1:]
	if len(c.events) > 0 {
		c.wake() // for another who waits
	}
	return e, true
}

func (c *Conn) wake() {
	select {
	case c.more <- struct{}{}:
	default: // there is a token
	}
}

// addRefused joins refusals, so that there are not more events than ids and programs when nobody takes them. The caller holds mu.
func (c *Conn) addRefused(e Event) {
	for i := range c.events {
		if at := &c.events[i]; at.FailedOpen == "" && at.ID == e.ID && at.Executable == e.Executable {
			at.PID = e.PID
			at.Count += min(e.Count, 1<<32-1-at.Count) // does not wrap
			return
		}
	}
	c.events = append(c.events, e)
}
