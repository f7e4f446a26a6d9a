package broker

import (
	"os"
	"testing"

	"locker/audit"
	"locker/wire"
)

// Somebody's file lease (fcntl(2), F_SETLEASE) makes opening wait, not locking: such a claim is in no queue yet.

func TestAFileLeaseIsWaitedForAndCancelled(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	path, other := r.file("a"), r.file("b")
	owner := startChild(t, "lease", path)
	p, q, bystander := r.dial(), r.dial(), r.dial()
	if e := p.refused(try(attached(path))); e.Code != wire.CodeBusy {
		t.Errorf("%+v", e)
	}
	id := p.send(attached(other, path))
	p.queued(id)
	if e := p.refused(timed(attached(path), 1)); e.Code != wire.CodeTimeout {
		t.Errorf("%+v", e)
	}
	bystander.granted(attached(other)) // whoever waits so holds nothing
	gone := q.send(attached(path))
	q.queued(gone)
	p.queued(p.send(&wire.Where{Target: id}))
	if m := p.answer(p.send(&wire.Cancel{Target: id})); m.Type() != wire.TypeDone {
		t.Errorf("%+v", m)
	}
	if e := asError(t, p.answer(id)); e.Code != wire.CodeCanceled {
		t.Errorf("%+v", e)
	}
	q.conn.Close()
	eventually(t, "who is gone does not wait any more", func() bool { // else he may be granted it, and only then be missed
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return r.b.accounts[uint32(os.Geteuid())].leaseWaits == 0
	})
	last := p.send(attached(path))
	p.queued(last)
	owner.end()
	grants(t, p.answer(last))
	r.checkReplay()
	p.conn.Close()
	bystander.conn.Close()
	r.settles(base)
	if n := len(r.records(audit.EventWait)); n != 5 { // the set has two
		t.Errorf("%d waits are recorded", n)
	}
	if n := len(r.records(audit.EventCancel, audit.EventTimeout)); n != 4 {
		t.Errorf("%d ends of waits are recorded", n)
	}
}

func TestWaitsForFileLeasesCountAsWaiters(t *testing.T) {
	r := newRig(t, limited("waiters = 2"))
	path := r.file("a")
	owner := startChild(t, "lease", path)
	p, q := r.dialUser(), r.dialUser()
	first, second := p.send(attached(path)), q.send(attached(path))
	p.queued(first)
	q.queued(second)
	if e := q.refused(attached(path)); e.Code != wire.CodeQuota {
		t.Errorf("%+v", e)
	}
	p.answer(p.send(&wire.Cancel{Target: first}))
	asError(t, p.answer(first))
	third := p.send(attached(path))
	p.queued(third)
	q.answer(q.send(&wire.Cancel{Target: second}))
	asError(t, q.answer(second))
	owner.end()
	grants(t, p.answer(third))
	eventually(t, "none is left in the count", func() bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return r.b.accounts[user()].leaseWaits == 0
	})
	r.checkReplay()
}

func TestDrainingEndsWaitsForFileLeases(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	startChild(t, "lease", path)
	p := r.dial()
	id := p.send(attached(path))
	p.queued(id)
	r.stop()
	if e := asError(t, p.answer(id)); e.Code != wire.CodeShutdown {
		t.Errorf("%+v", e)
	}
	r.halt()
}
