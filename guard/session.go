package guard

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	maxReports = 256 // refusals that the session has not looked at yet; more are counted only

	// The session looks at its reader ten times in the time that an event has. One that has waited for seven tenths is let pass,
	// and that takes two and a half at most. If the session does not look, the deadman's time is over.
	looks   = 10
	waits   = 7
	closeIn = 4 // a part of the patience

	// A group that fails is opened again, but not for ever: whatever it is, the broker should know that nothing is guarded.
	maxFailures   = 3
	failureWindow = time.Minute
)

// session is the guard's end of a broker's connection. Its goroutine does what the broker asks for, watches the reader of the
// events, and is itself watched by the deadman. It never waits: a broker that does not read what it asked for is sent away.
type session struct {
	s     *Server
	conn  *net.UnixConn
	raw   syscall.RawConn
	pid   int32
	dead  *deadman
	judge *judge // nil: there was no Deny
	held  *held
	group *group // nil: nothing is guarded
	tick  *time.Ticker
	over  bool // the connection is to end

	refused  *refusals
	reports  chan seen     // from the reader of the events
	missed   atomic.Uint32 // reports for which there was no room
	failures []time.Time
}

// request is a message of the broker's, with its descriptors, or why there will be none.
type request struct {
	message
	rights []int
	err    error
	full   bool // the kernel could not give us the descriptors
}

// run ends with the connection. Whatever was guarded is let go first.
func (b *session) run(ctx context.Context, in *receiver) {
	b.tick = time.NewTicker(b.s.interval)
	defer b.tick.Stop()
	requests, stop := make(chan request), make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() { read(in, requests, stop) })
	defer reading.Wait()
	defer b.conn.Close() // ends the reading
	defer close(stop)
	defer b.letGo()
	for !b.over {
		var tick <-chan time.Time
		var failed <-chan error
		if b.group != nil {
			tick, failed = b.tick.C, b.group.failed
		}
		select {
		case <-ctx.Done():
			return
		case r := <-requests:
			b.take(r)
		case <-tick:
			b.look()
		case err := <-failed:
			b.failOpen(err)
		case s := <-b.reports:
			b.refused.add(refusal{b.held.which(s), s.exe}, s.pid, 1)
			b.tell()
		}
	}
}

// read passes messages on, until there is an error or the session has ended.
func read(in *receiver, to chan<- request, stop <-chan struct{}) {
	for {
		r := request{err: in.receive()}
		if r.err == nil {
			r.rights = in.rights
			r.err = parseMessage(in.packet, &r.message)
			switch {
			case r.err != nil:
			case in.cut && r.kind == kindGuard && len(r.rights) < r.message.rights():
				r.full = true
			case in.cut || r.message.rights() != len(r.rights):
				r.err = errors.New("a message with another number of descriptors than it says")
			}
		}
		select {
		case to <- r:
		case <-stop:
			closeAll(r.rights)
			return
		}
		if r.err != nil {
			return
		}
	}
}

// take does what a message says. Each of its descriptors is held or closed here.
func (b *session) take(r request) {
	if r.err != nil {
		closeAll(r.rights)
		b.over = true
		if !errors.Is(r.err, io.EOF) && !errors.Is(r.err, syscall.ECONNRESET) {
			b.s.warn("the broker's connection is ended", "pid", b.pid, "error", r.err)
		}
		return
	}
	c, why := codeOK, ""
	switch r.kind {
	case kindDeny:
		c, why = b.setDeny(r.paths)
	case kindGuard:
		if r.full {
			closeAll(r.rights)
			c, why = codeRoom, "too many open files"
			break
		}
		c, why = b.guard(r.id, r.rights)
	case kindLift:
		b.lift(r.id)
	case kindPing:
	default:
		b.over = true
		b.s.warn("the broker's connection is ended", "pid", b.pid, "error", "a message that only guards send")
		return
	}
	b.send(&message{kind: kindAnswer, number: r.number, code: c, text: cut(why)})
}

// cut makes a text fit.
func cut(text string) string { return text[:min(len(text), maxText)] }

// send ends the connection when the broker does not read. So it does when the broker is dead: of all that it had asked for, which may
// still be in the queue, no more than one thing is done.
func (b *session) send(m *message) {
	if err := send(b.raw, m); err != nil && !b.over {
		b.over = true
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			b.s.warn("the broker does not read, and its connection is ended", "pid", b.pid, "error", err)
		}
	}
}

// look is the watch over the reader of the events.
func (b *session) look() {
	if b.s.watching != nil {
		b.s.watching()
	}
	b.mayDie(b.dead.beat())
	b.tell()
	if b.group.stuck(time.Now(), b.s.patience*waits/looks) {
		b.failOpen(errors.New("an opener was not answered in time"))
	}
}

// answer judges an event. It is the reader's, and waits for nobody.
func (b *session) answer(e event) (deny bool) {
	if b.s.judging != nil {
		b.s.judging()
	}
	exe := b.judge.refuses(e.pid)
	if exe == "" {
		return false
	}
	select {
	case b.reports <- look(e, exe):
	default:
		b.missed.Add(1)
	}
	return true
}

// tell tells the broker who was refused. What its queue has no room for is told later.
func (b *session) tell() {
	if n := b.missed.Swap(0); n > 0 {
		b.refused.add(refusal{}, 0, n)
	}
	b.refused.tell(time.Now(), func(key refusal, pid int32, count uint32) bool {
		return send(b.raw, &message{kind: kindRefused, id: key.id, pid: uint32(pid), count: count, text: key.exe}) == nil
	})
}
