package keeper

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// link is the keeper's end of one broker's connection.
type link struct {
	s     *Server
	in    *receiver
	out   *sender
	conn  *lazyConn
	pid   int32
	ended error // why the keeper has ended the connection; what is still in it is taken all the same
	lists int   // that were answered
	late  bool  // the broker came when the keeper was to leave already
	last  bool  // and it has everything now: nothing more is to be done
}

func (s *Server) newLink(conn *net.UnixConn, pid int32) (*link, error) {
	lazy, err := newLazyConn(conn, s.closing.start)
	if err != nil {
		return nil, err
	}
	b := &link{s: s, conn: lazy, pid: pid}
	if b.in, err = newReceiver(lazy, true); err == nil {
		b.out, err = newSender(lazy)
	}
	if err != nil {
		lazy.close()
		return nil, err
	}
	return b, nil
}

// take does what a message says. Each of its descriptors is kept or closed here.
func (b *link) take() {
	var m message
	err := parseMessage(b.in.packet, &m)
	switch {
	case b.in.cut && len(b.in.rights) < maxRights && len(b.in.packet) <= maxMessage:
		// recvmsg(2) could not give all descriptors a number: RLIMIT_NOFILE was lowered, or the system is out of files.
		err = errors.New("descriptors were lost: too many open files")
	case b.in.cut && len(b.in.packet) <= maxMessage:
		err = errors.New("a message with too many descriptors")
	case err == nil && m.rights() != len(b.in.rights):
		err = errors.New("a message with another number of descriptors than it says")
	}
	if err != nil {
		b.s.closing.close(b.in.rights...)
		b.end(err)
		return
	}
	switch m.kind {
	case kindPut:
		b.put(&m)
	case kindSet:
		if e, ok := b.s.kept.get(m.id); ok {
			e.Blob = m.blob
			b.s.kept.put(e)
		}
	case kindDrop:
		Step("keeper.drop-received")
		b.s.drop(m.id)
	case kindList:
		if b.ended == nil && b.list() {
			Step("keeper.listed")
			b.lists++
			b.last = b.late && b.lists > 1
		}
	case kindSync:
		if b.ended == nil {
			b.sync(m.number)
			b.last = b.late
		}
	case kindForget:
		b.s.complete = false
		b.s.forgetAll()
	default:
		b.s.closing.close(b.in.rights...)
		b.end(errors.New("a message that only keepers send"))
	}
}

func (b *link) put(m *message) {
	Step("keeper.put-received")
	e := Entry{ID: m.id, Blob: m.blob, Lock: -1, Holder: -1}
	rights := b.in.rights
	if m.set&withLock != 0 {
		e.Lock, rights = rights[0], rights[1:]
	}
	if m.set&withHolder != 0 {
		e.Holder = rights[0]
	}
	if loses() {
		b.s.closing.close(e.Lock, e.Holder)
		return
	}
	if isSocket(e.Lock) || isSocket(e.Holder) {
		b.s.closing.close(e.Lock, e.Holder)
		b.end(errors.New("a socket instead of a lock or a process"))
		return
	}
	if !b.s.put(e) {
		b.end(errors.New("more entries than there is room for"))
		return
	}
	Step("keeper.put-kept")
}

// isSocket asks no file system. A kept copy of the broker's own end would keep this connection from ever ending, and so the next
// broker from being served.
func isSocket(fd int) bool {
	if fd < 0 {
		return false
	}
	_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil
}

// list answers with all entries; false if the broker did not take them.
func (b *link) list() bool {
	ids := b.s.kept.ids()
	for _, id := range ids {
		e, _ := b.s.kept.get(id)
		if !b.send(&message{kind: kindEntry, id: id, blob: e.Blob}, e.Lock, e.Holder) {
			return false
		}
	}
	end := message{kind: kindEnd, highest: b.s.highest, count: uint32(len(ids)), room: uint32(b.s.room())}
	if b.s.complete {
		end.set = isComplete
	}
	return b.send(&end, -1, -1)
}

func (b *link) sync(number uint64) {
	b.s.complete = true
	if !b.send(&message{kind: kindSynced, number: number}, -1, -1) {
		return
	}
	if b.s.Synced != nil {
		b.s.Synced(b.pid)
	}
	Step("keeper.synced")
}

// send waits for a broker that is slow to read, but not for ever; false: the connection is ended, or the broker gone.
func (b *link) send(m *message, lock, holder int) bool {
	patience := b.s.patience
	if patience == 0 {
		patience = defaultPatience
	}
	deadline := time.Now().Add(patience)
	for {
		err := b.out.send(m, lock, holder)
		switch {
		case err == nil:
			return true
		case err == unix.EAGAIN:
			b.conn.deadline = deadline
			if err := waitWritable(b.out.raw); err != nil {
				b.end(errors.New("the broker does not read"))
				return false
			}
		case err == unix.ETOOMANYREFS && time.Now().Before(deadline):
			time.Sleep(crowdedPause) // until more of the descriptors that are in flight have been received. unix(7)
		case err == unix.EPIPE || err == unix.ECONNRESET || errors.Is(err, net.ErrClosed):
			return false // what the broker sent before it died comes next
		default:
			b.end(err)
			return false
		}
	}
}

// end tells the broker, by the end of the connection, that it must send everything again. What it has sent before it notices is
// still read: there may be locks in it whose only other copy dies with the broker.
func (b *link) end(why error) {
	if b.ended != nil {
		return
	}
	b.ended = why
	b.s.complete = false // until everything has been sent again
	b.s.warn("the broker's connection is ended; it should connect and send everything again", "pid", b.pid, "error", why)
	b.conn.shut()
}
