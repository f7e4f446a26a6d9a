package client

import (
	"fmt"
	"slices"
	"time"

	"locker/wire"
)

// Cause says how a lock was lost.
type Cause uint8

// The causes.
const (
	Broken       Cause = iota + 1 // somebody broke it
	Expired                       // its lease has ended
	Stopped                       // lockerd is stopping
	Disconnected                  // lockerd went away, or did not keep it
)

func (c Cause) String() string {
	switch c {
	case Broken:
		return "broken"
	case Expired:
		return "expired"
	case Stopped:
		return "stopped"
	case Disconnected:
		return "disconnected"
	}
	return fmt.Sprintf("cause %d", uint8(c))
}

// Loss says that one file of a lock is ours no longer, or will not be after Grace. It is an error, for those who want
// to return it.
type Loss struct {
	Token  uint64
	Path   string
	Cause  Cause
	By     string        // who broke it, if we may know
	Reason string        // why
	Grace  time.Duration // for so long nobody else gets it, unless we unlock; 0: it is gone
	Err    error         // of Disconnected: what ended the session; CodeLost if lockerd is back and did not keep the lock
}

func (l Loss) Error() string {
	text := fmt.Sprintf("lock on %q lost: ", l.Path)
	switch l.Cause {
	case Broken:
		text += "broken"
		if l.By != "" {
			text += fmt.Sprintf(" by %q", l.By)
		}
	case Expired:
		text += "its lease has ended"
	case Stopped:
		text += "lockerd is stopping"
	case Disconnected:
		if CodeOf(l.Err) == CodeLost {
			text += "lockerd did not keep it"
		} else {
			text += "lockerd went away"
		}
	default:
		text += l.Cause.String()
	}
	if l.Reason != "" {
		text += fmt.Sprintf(": %q", l.Reason)
	}
	return text
}

// Unwrap gives what ended the session.
func (l Loss) Unwrap() error { return l.Err }

// Lost gives the channel on which a Loss arrives for each file that is lost; a lock on one file is lost at most once. It
// is closed when no more can come: the lock was released, all of it was lost, or the Client closed. So receive with
// two values; ok is false when nothing was lost.
//
// A lockerd that stays away loses attached locks; of detached ones it only means that nobody will tell us.
func (l *Lock) Lost() <-chan Loss { return l.lost }

// lose passes the event on. The caller (the reader) holds mu.
func (c *Client) lose(m *wire.Lost) {
	if len(c.holds[m.ID]) == 0 {
		c.expect(m)
		return
	}
	cause := Cause(0)
	switch m.Cause {
	case wire.Broken:
		cause = Broken
	case wire.Expired:
		cause = Expired
	case wire.Stopped:
		cause = Stopped
	}
	for _, l := range slices.Clone(c.holds[m.ID]) {
		l.lose(Loss{Token: m.ID, Path: m.Path, Cause: cause, By: m.By, Reason: m.Reason, Grace: m.Grace})
	}
}

// lose tells the lock's owner, under the path by which he asked for it. The caller holds mu.
func (l *Lock) lose(loss Loss) {
	if i := slices.IndexFunc(l.holds, func(h Hold) bool { return h.Token == loss.Token }); i >= 0 {
		loss.Path = l.holds[i].Path
	}
	l.gone = append(l.gone, loss.Token)
	l.lost <- loss // has room: see the field
	l.c.settled(loss.Token, l)
}

// loseAll tells every lock that the client has ended. The caller holds mu.
func (c *Client) loseAll(err error) {
	for id, locks := range c.holds {
		for _, l := range slices.Clone(locks) {
			if l.attached && !c.closed {
				l.lose(Loss{Token: id, Cause: Disconnected, Err: err})
			} else {
				c.settled(id, l)
			}
		}
	}
}

// settled takes id out of the lock: nothing more will be heard of it. The caller holds mu.
func (c *Client) settled(id uint64, l *Lock) {
	i := slices.Index(l.live, id)
	if i < 0 {
		return
	}
	l.live = slices.Delete(l.live, i, i+1)
	if len(l.live) == 0 {
		close(l.lost) // only here, and live is empty once: it is never filled again
		close(l.altered)
	}
	rest := slices.DeleteFunc(c.holds[id], func(other *Lock) bool { return other == l })
	if len(rest) == 0 {
		delete(c.holds, id)
	} else {
		c.holds[id] = rest
	}
}

// expect keeps the loss of a hold that we do not know (yet): a hold can be broken while its grant is still being
// written to disk, so that the event overtakes the answer. Without a Lock on its way it is about one that we have
// released. The caller holds mu.
func (c *Client) expect(m *wire.Lost) {
	const most = 64 // events between a grant and its answer; more would mean that lockerd makes them up
	for _, k := range c.calls {
		if k.request != nil && len(c.early) < most {
			c.early[m.ID] = m
			return
		}
	}
	clear(c.early)
}
