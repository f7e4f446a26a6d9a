package broker

import (
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

func TestAtTheStopEverybodyWhoWaitsIsTold(t *testing.T) {
	r := newRig(t, nil)
	path, outside, leased := r.file("a"), r.file("b"), r.file("c")
	defer outsideLock(t, outside).Close()
	startChild(t, "lease", leased)
	holder := r.dial()
	holder.granted(detached(path))
	p := r.dial()
	var ids []uint32
	for range 5 {
		ids = append(ids, p.send(attached(path)), p.send(detached(outside)), p.send(attached(leased)))
	}
	for _, id := range ids {
		p.queued(id)
	}
	r.stop()
	for _, id := range ids {
		if e := asError(t, p.answer(id)); e.Code != wire.CodeShutdown {
			t.Errorf("%+v", e)
		}
	}
	p.gone()
	holder.gone()
	r.halt()
	stops := readRecords(t, r.dir+"/audit", audit.EventStop)
	if len(stops) != 1 {
		t.Errorf("%d stops are recorded", len(stops))
	}
}

func TestAtTheStopAttachedHoldersHaveTheirGrace(t *testing.T) {
	r := newRig(t, nil)
	quick, slow, plain, kept := r.file("quick"), r.file("slow"), r.file("plain"), r.file("kept")
	p, q, s := r.dial(), r.dial(), r.dial()
	graced := func(path string) *wire.Lock { m := attached(path); m.Grace = wire.MaxGrace; return m }
	gq, gs := p.granted(graced(quick)), q.granted(graced(slow))
	gp := s.granted(attached(plain))
	s.granted(detached(kept))
	r.stop()
	for who, g := range map[*peer]wire.Grant{p: gq[0], q: gs[0], s: gp[0]} {
		if l := who.lost(); l.ID != g.ID || l.Cause != wire.Stopped {
			t.Errorf("%+v", l)
		}
	}
	// They are served while they clean up, but nothing new is granted, and nobody new let in.
	for _, path := range []string{quick, slow} {
		if isFree(t, path) {
			t.Errorf("%s is free within the grace", path)
		}
	}
	if e := q.refused(attached(r.file("new"))); e.Code != wire.CodeShutdown {
		t.Errorf("%+v", e)
	}
	q.undisturbed()
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: gq[0].ID}))
	if !isFree(t, quick) {
		t.Error("not free after the unlock")
	}
	s.answer(s.send(&wire.Unlock{By: wire.ByID, ID: gp[0].ID}))
	began := time.Now()
	q.conn.Close() // the last: nobody waits for the rest of its grace
	r.halt()
	if took := time.Since(began); took > wire.MaxGrace/2 {
		t.Errorf("the stop took %v", took)
	}
	for path, free := range map[string]bool{slow: true, plain: true, kept: true} { // the rig's halt closes detached ones
		if isFree(t, path) != free {
			t.Errorf("%s: free %v", path, !free)
		}
	}
	ends := readRecords(t, r.dir+"/audit", audit.EventRelease, audit.EventDeath, audit.EventBreak, audit.EventExpire)
	if len(ends) != 3 {
		t.Errorf("%d ends are recorded: %+v", len(ends), ends)
	}
}

func TestTheStopDoesNotWaitForClientsThatDoNotRead(t *testing.T) {
	r := newRig(t, nil)
	r.bigList()
	for range 5 {
		p := r.dial()
		p.says(20, encoded(t, 7, &wire.List{}))
		q := r.dial()
		r.pileUp(q, 1)
	}
	r.halt() // within the rig's patience
}

func TestAnswersThatAreDueAtTheStopAreSent(t *testing.T) {
	for range 20 {
		r := newRig(t, nil)
		p := r.dial()
		path := r.file("a")
		var ids []uint32
		for range 50 {
			ids = append(ids, p.send(detached(path)), p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}}))
		}
		p.answer(ids[10])
		r.stop()
		for _, id := range ids[11:] {
			switch m := p.answer(id).(type) {
			case *wire.Granted, *wire.Released:
			case *wire.Error:
				if m.Code != wire.CodeShutdown {
					t.Errorf("%+v", m)
				}
			default:
				t.Errorf("%+v", m)
			}
		}
		r.halt()
	}
}

func TestAnswersThatAClientHasNotReadYetAreSentAtTheStop(t *testing.T) {
	r := newRig(t, readsLate)
	p := r.dial()
	asked := r.pileUp(p, 20<<10)
	r.stop()
	for range asked {
		if m := p.answer(1 << 20); m.Type() != wire.TypeStatusReply {
			t.Fatalf("%+v", m)
		}
	}
	r.halt()
}
