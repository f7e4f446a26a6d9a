package broker

import (
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

// timeLimits is a policy whose rules limit how long things are held and waited for.
func timeLimits(r *rig) {
	r.policy = rules(r.files, `
allow = ["FILES"]
[[rule]]
name = "an hour"
users = ["*"]
paths = ["FILES"]
max_hold = "1h"
max_wait = "10m"
can = ["lock", "lock-shared", "list"]
`)
}

func TestAHoldEndsWithItsLeaseOrTheRulesWhicheverIsFirst(t *testing.T) {
	for name, c := range map[string]struct {
		ttl, lasts time.Duration
		life       wire.Life
	}{
		"a lease":                  {time.Minute, time.Minute, wire.Detached},
		"the rule's limit":         {0, time.Hour, wire.Detached},
		"a lease beyond the limit": {2 * time.Hour, time.Hour, wire.Detached},
		"an attached lock":         {0, time.Hour, wire.Attached},
	} {
		t.Run(name, func(t *testing.T) {
			var clock still
			r := newRig(t, func(r *rig) { clock.drive(r); timeLimits(r) })
			path := r.file("a")
			p, q := r.dialUser(), r.dialUser()
			m := attached(path)
			if c.life == wire.Detached {
				m = detached(path)
				m.TTL, m.Tag = c.ttl, "x"
			}
			began := time.Now()
			g := p.granted(m)
			if e := g[0].Expires; e.Before(began.Add(c.lasts)) || e.After(time.Now().Add(c.lasts)) {
				t.Errorf("ends %v, after %v", e, e.Sub(began))
			}
			clock.forward(r, c.lasts-1)
			p.undisturbed()
			r.b.endDue(t.Context()) // nothing is due yet
			if e := q.refused(try(attached(path))); e.Code != wire.CodeBusy {
				t.Errorf("a nanosecond before its end: %+v", e)
			}
			id := q.send(attached(path))
			q.queued(id)
			clock.forward(r, 1)
			grants(t, q.answer(id))
			if c.life == wire.Attached {
				if l := p.lost(); l.ID != g[0].ID || l.Cause != wire.Expired || l.Grace != 0 || l.Path != path {
					t.Errorf("%+v", l)
				}
			}
			if rel := p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})).(*wire.Released); len(rel.IDs) != 0 {
				t.Errorf("unlocked what had ended: %+v", rel)
			}
			if n := len(r.records(audit.EventExpire)); n != 1 {
				t.Errorf("%d ends are recorded", n)
			}
			r.checkReplay()
			p.undisturbed()
		})
	}
}

func TestARenewedLockIsNotTheOneThatExpires(t *testing.T) {
	var clock still
	r := newRig(t, clock.drive)
	path := r.file("a")
	p := r.dial()
	m := detached(path)
	m.TTL = time.Minute
	first := p.granted(m)
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}}))
	clock.forward(r, 30*time.Second)
	second := p.granted(m)
	clock.forward(r, 30*time.Second) // the first one's end
	r.b.endDue(t.Context())
	if again := p.granted(m); !again[0].Already || again[0].ID != second[0].ID || again[0].ID == first[0].ID {
		t.Errorf("%+v", again)
	}
	r.b.mu.Lock()
	n := r.b.deadlines.Len()
	r.b.mu.Unlock()
	if n != 1 {
		t.Errorf("%d deadlines for one lease", n)
	}
}

func TestAWaitEndsAtItsTimeOrTheRulesWhicheverIsFirst(t *testing.T) {
	for name, c := range map[string]struct {
		asked, lasts time.Duration
		outside      bool
	}{
		"what was asked":                      {time.Minute, time.Minute, false},
		"the rule's limit":                    {0, 10 * time.Minute, false},
		"more than the limit":                 {time.Hour, 10 * time.Minute, false},
		"for a holder outside":                {time.Minute, time.Minute, true},
		"for a holder outside, by the limit":  {0, 10 * time.Minute, true},
		"for a holder outside, over the head": {time.Hour, 10 * time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			var clock still
			r := newRig(t, func(r *rig) { clock.drive(r); timeLimits(r) })
			base := r.atRest()
			path := r.file("a")
			p, q := r.dial(), r.dialUser()
			if c.outside {
				defer outsideLock(t, path).Close()
				base.descriptors++
			} else {
				p.granted(attached(path))
			}
			m := attached(path)
			if c.asked > 0 {
				m = timed(m, c.asked)
			}
			id := q.send(m)
			q.queued(id)
			clock.forward(r, c.lasts-1)
			r.b.endDue(t.Context())
			q.queued(q.send(&wire.Where{Target: id}))
			clock.forward(r, 1)
			e := asError(t, q.answer(id))
			if e.Code != wire.CodeTimeout || len(e.Blockers) != 1 || e.Path != path {
				t.Errorf("%+v", e)
			}
			if rec := r.records(audit.EventTimeout); len(rec) != 1 || rec[0].Waited != c.lasts {
				t.Errorf("%+v", rec)
			}
			p.conn.Close()
			q.conn.Close()
			r.settles(base)
		})
	}
}

func TestAnExpiredHoldWithAGraceKeepsItsPlaceForSoLong(t *testing.T) {
	for _, how := range []string{"over", "used", "left", "broken meanwhile"} {
		t.Run(how, func(t *testing.T) {
			var clock still
			r := newRig(t, func(r *rig) { clock.drive(r); timeLimits(r) })
			path := r.file("a")
			root, p, q := r.dial(), r.dialUser(), r.dialUser()
			m := attached(path)
			m.Grace = 10 * time.Second
			g := p.granted(m)
			clock.forward(r, time.Hour)
			if l := p.lost(); l.ID != g[0].ID || l.Cause != wire.Expired || l.Grace != m.Grace {
				t.Errorf("%+v", l)
			}
			id := q.send(attached(path))
			q.queued(id)
			if rows := p.rowsOf(p.send(&wire.List{})); !rows[0].Ending {
				t.Errorf("%+v", rows[0])
			}
			r.checkReplay()
			if isFree(t, path) {
				t.Error("free within the grace")
			}
			// Its own owner waits as well: it has lost it.
			if e := p.refused(try(attached(path))); e.Code != wire.CodeBusy {
				t.Errorf("%+v", e)
			}
			clock.forward(r, m.Grace-1)
			r.b.endDue(t.Context())
			q.queued(q.send(&wire.Where{Target: id}))
			switch how {
			case "over":
				clock.forward(r, 1)
			case "used":
				p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
			case "left":
				p.conn.Close()
			case "broken meanwhile": // has been told already: the grace is not begun anew, nor cut short
				root.answer(root.send(&wire.Break{By: wire.ByPath, Path: path, Reason: "x"}))
				clock.forward(r, 1)
			}
			grants(t, q.answer(id))
			r.checkReplay()
			if n := len(r.records(audit.EventExpire)); n != 1 {
				t.Errorf("%d ends are recorded", n)
			}
		})
	}
}
