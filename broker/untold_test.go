package broker

import (
	"os"
	"slices"
	"testing"

	"locker/audit"
	"locker/wire"
)

// loseTo kills both processes and starts them again while somebody outside has locked the files, who then lets go.
func (s *shelf) loseTo(outside ...string) {
	s.r.t.Helper()
	s.crash()
	s.end()
	var taken []*os.File
	for _, path := range outside {
		taken = append(taken, outsideLock(s.r.t, path))
	}
	s.start()
	s.back()
	for _, f := range taken {
		f.Close()
	}
}

// Two clients exclude each other, even if somebody outside has come between them: the first believes to hold the file until it has
// come back.
func TestNobodyIsGrantedWhatAnotherClientDoesNotKnowThatItHasLost(t *testing.T) {
	var clock still
	ends := map[string]func(r *rig, s *shelf, p *peer, c *child){
		"it comes back": func(r *rig, _ *shelf, p *peer, _ *child) {
			if ids := p.resumed(r); len(ids) != 0 {
				r.t.Errorf("resumed with %v", ids)
			}
		},
		"it does not come back": func(r *rig, _ *shelf, _ *peer, _ *child) { clock.forward(r, defaultPatience) },
		"it dies":               func(_ *rig, _ *shelf, _ *peer, c *child) { c.end() },
		"lockerd dies again, and it comes back": func(r *rig, s *shelf, p *peer, c *child) {
			s.crash()
			s.back()
			s.loseTo()
			if e := r.dial2().refused(try(attached(r.files + "/a"))); e.Code != wire.CodeBusy {
				r.t.Errorf("after two more starts %+v", e)
			}
			c.end()
			p.resumed(r)
		},
	}
	for how, end := range ends {
		t.Run(how, func(t *testing.T) {
			r, s := withKeeper(t, clock.drive)
			a, b := r.file("a"), r.file("b")
			p := r.dial2()
			var c *child
			lost := []string{a}
			if how != "it dies" {
				p.granted(attached(a))
			}
			if how != "it comes back" && how != "it does not come back" {
				c = startChild(t, "keen", r.socket, b)
				lost = append(lost, b)
			}
			if how == "it dies" {
				lost = []string{b}
			}
			s.loseTo(lost...)
			q := r.dial2()
			for _, path := range lost {
				if e := q.refused(try(attached(path))); e.Code != wire.CodeBusy || len(e.Blockers) != 1 || e.Blockers[0].PID == 0 {
					t.Errorf("%s: %+v", path, e)
				}
			}
			waits := q.send(attached(lost...))
			q.queued(waits)
			rows := q.rowsOf(q.send(&wire.List{All: true}))
			if i := slices.IndexFunc(rows, func(row wire.Row) bool { return row.Path == lost[0] }); i < 0 || rows[i].Kind != wire.RowOrphan || !rows[i].Ending {
				t.Errorf("%+v", rows)
			}
			r.checkReplay()
			if q.isAnswered(waits) {
				t.Fatal("granted to two")
			}
			end(r, s, p, c)
			if how == "lockerd dies again, and it comes back" {
				q = r.dial2()
				waits = q.send(attached(lost...))
			}
			grants(t, q.answer(waits))
			for _, path := range lost {
				if isFree(t, path) {
					t.Errorf("%s is granted and free", path)
				}
			}
			r.checkReplay()
			told := map[audit.Event]int{}
			for _, rec := range r.records(audit.EventLost, audit.EventCleared) {
				told[rec.Event]++
			}
			if told[audit.EventLost] != len(lost) || told[audit.EventCleared] != len(lost) {
				t.Errorf("recorded: %v", told)
			}
			r.halt()
		})
	}
}

func TestALostReaderKeepsNoReaderOut(t *testing.T) {
	r, s := withKeeper(t, nil)
	path := r.file("a")
	p := r.dial2()
	p.granted(reader(attached(path)))
	s.loseTo(path)
	q := r.dial2()
	q.granted(reader(attached(path)))
	if e := r.dial2().refused(try(attached(path))); e.Code != wire.CodeBusy || len(e.Blockers) != 2 {
		t.Errorf("%+v", e)
	}
	p.resumed(r)
	p.granted(reader(attached(path)))
	r.checkReplay()
}

// A stop lets go of it like of everything else.
func TestAStopLeavesNothingUntold(t *testing.T) {
	r, s := withKeeper(t, nil)
	path := r.file("a")
	r.dial2().granted(attached(path))
	s.loseTo(path)
	r.halt()
	if n := len(readRecords(t, r.dir+"/audit", audit.EventCleared)); n != 1 {
		t.Errorf("%d cleared", n)
	}
	r.start()
	t.Cleanup(r.halt)
	r.dial2().granted(try(attached(path)))
}
