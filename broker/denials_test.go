package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

// records gives the records on file, of the events.
func (r *rig) records(events ...audit.Event) []audit.Record {
	r.t.Helper()
	if h := r.log.Health(); h.Err == nil {
		if err := r.log.Commit(h.Seq, false); err != nil {
			r.t.Fatal(err)
		}
	}
	return readRecords(r.t, filepath.Join(r.dir, "audit"), events...)
}

func readRecords(t testing.TB, dir string, events ...audit.Event) (found []audit.Record) {
	t.Helper()
	err := audit.Read(dir, audit.Filter{}, func(_ []byte, rec *audit.Record) error {
		for _, e := range events {
			if rec.Event == e {
				found = append(found, *rec)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// still is a clock that stands until it is put forward.
type still struct {
	mu sync.Mutex
	at time.Duration
}

func (s *still) read() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *still) forward(r *rig, d time.Duration) {
	s.mu.Lock()
	s.at += d
	s.mu.Unlock()
	r.b.poke()
}

func (s *still) drive(r *rig) {
	s.at = time.Hour
	r.alter = func(_ *audit.Config, config *Config) { config.Boot = s.read }
}

func TestDenialsBeyondTheLimitAreCountedAndGrantsAreAlwaysRecorded(t *testing.T) {
	var clock still
	r := newRig(t, func(r *rig) {
		clock.drive(r)
		limited("denial_rate = 2\ndenial_burst = 5\ndenial_rate_all = 100")(r)
	})
	p := r.dialUser()
	path := r.file("a")
	for range 20 {
		if e := p.refused(attached("/etc/passwd")); e.Code != wire.CodeDenied {
			t.Fatalf("%+v", e)
		}
		g := p.granted(attached(path))
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	}
	if n := len(r.records(audit.EventDeny)); n != 5 {
		t.Errorf("%d deny records, 5 may be", n)
	}
	if n := len(r.records(audit.EventGrant)); n != 20 {
		t.Errorf("%d grants are recorded of 20", n)
	}
	clock.forward(r, time.Second)
	eventually(t, "what was left out is counted", func() bool {
		s := r.records(audit.EventSuppressed)
		return len(s) == 1 && s[0].Count == 15 && s[0].Peer && s[0].UID == user()
	})
	p.refused(attached("/etc/passwd")) // the second token of that second
	p.refused(attached("/etc/passwd"))
	if n := len(r.records(audit.EventDeny)); n != 6 {
		t.Errorf("%d deny records, 6 may be", n)
	}
	if os.Geteuid() == 0 { // another user's refusals are not this one's
		r.dialAs(bob).refused(attached("/etc/passwd"))
		if n := len(r.records(audit.EventDeny)); n != 7 {
			t.Errorf("%d deny records with another user's", n)
		}
	}
}

func TestNoRefusalIsLostFromTheCountByAReloadOrAStop(t *testing.T) {
	var clock still
	r := newRig(t, func(r *rig) {
		clock.drive(r)
		limited("denial_rate = 1\ndenial_burst = 3")(r)
	})
	p := r.dialUser()
	for range 10 {
		p.refused(attached("/etc/passwd"))
	}
	if _, err := r.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		p.refused(attached("/etc/passwd"))
	}
	r.halt()
	denied := len(readRecords(t, filepath.Join(r.dir, "audit"), audit.EventDeny))
	if denied != 3 {
		t.Errorf("%d deny records: a reload is no fresh start", denied)
	}
	for _, s := range readRecords(t, filepath.Join(r.dir, "audit"), audit.EventSuppressed) {
		denied += int(s.Count)
	}
	if denied != 20 {
		t.Errorf("%d refusals in the log, recorded or counted; there were 20", denied)
	}
	if n := r.b.denials.pending; n != 0 {
		t.Errorf("%d users are still looked at for counts", n)
	}
}

func TestRefusedConnectionsOfUnknownPeersAreNotPutDownToRoot(t *testing.T) {
	var clock still
	r := newRig(t, func(r *rig) {
		clock.drive(r)
		limited("denial_rate = 1\ndenial_burst = 2")(r)
	})
	for range 5 {
		p := r.dialMuteAs(65534) // "nobody": the overflow uid
		if e, ok := last(p.lastWords()).(*wire.Error); !ok || e.Code != wire.CodeDenied {
			t.Errorf("%+v", e)
		}
	}
	clock.forward(r, time.Second)
	eventually(t, "they are counted", func() bool { return len(r.records(audit.EventSuppressed)) == 1 })
	for _, rec := range r.records(audit.EventConnectRefused, audit.EventSuppressed) {
		if rec.Peer {
			t.Errorf("%s is put down to uid %d", rec.Event, rec.UID)
		}
	}
	root := r.dial()
	for range 2 {
		root.refused(attached("/etc/passwd"))
	}
	if n := len(r.records(audit.EventDeny)); n != 2 {
		t.Errorf("%d of root's refusals are recorded; unknown peers have used its budget", n)
	}
	if n := len(r.records(audit.EventConnectRefused)); n != 2 {
		t.Errorf("%d refused connections recorded", n)
	}
}

func TestRefusalsOfManyUsersTogetherStayWithinTheLimitOfAll(t *testing.T) {
	needRoot(t, "several users")
	var clock still
	r := newRig(t, func(r *rig) {
		clock.drive(r)
		limited("denial_rate = 10\ndenial_burst = 50\ndenial_rate_all = 20")(r)
	})
	for uid := range uint32(6) {
		p := r.dialAs(64000 + uid)
		for range 10 {
			p.refused(attached(fmt.Sprint("/etc/", uid)))
		}
		p.conn.Close()
	}
	if n := len(r.records(audit.EventDeny)); n != 20 {
		t.Errorf("%d deny records, 20 may be", n)
	}
	clock.forward(r, 10*time.Second)
	eventually(t, "the other 40 are counted", func() bool {
		sum := uint64(0)
		for _, s := range r.records(audit.EventSuppressed) {
			sum += s.Count
		}
		return sum == 40
	})
}

func TestWaitsBeyondTheLimitAreCountedToo(t *testing.T) {
	var clock still
	r := newRig(t, func(r *rig) {
		clock.drive(r)
		limited("denial_rate = 1\ndenial_burst = 2\ndenial_rate_all = 100")(r)
	})
	p, q := r.dial(), r.dialUser()
	path := r.file("a")
	p.granted(attached(path))
	const rounds = 40
	for range rounds {
		id := q.send(attached(path))
		q.queued(id)
		q.answer(q.send(&wire.Cancel{Target: id}))
		q.answer(id)
	}
	written, ends := len(r.records(audit.EventWait)), len(r.records(audit.EventCancel))
	if written < 2 || written >= rounds || ends != written {
		t.Errorf("%d waits of %d are written, and %d of their ends", written, rounds, ends)
	}
	r.halt()
	for _, s := range readRecords(t, filepath.Join(r.dir, "audit"), audit.EventSuppressed) {
		written += int(s.Count)
	}
	if written != rounds {
		t.Errorf("%d waits in the log, recorded or counted; there were %d", written, rounds)
	}
}
