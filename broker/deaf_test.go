package broker

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"locker/audit"
	"locker/keeper"
	"locker/wire"
)

// A keeper that does not read: its queue is full, and takes what the test reads of it and no more.
type deaf struct {
	read func() // makes room for one message
	end  func() // the broker has its own keeper again, which has heard nothing meanwhile
}

func (r *rig) deafen() deaf {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "s")
	l, err := keeper.Listen(path)
	must(r.t, err)
	defer l.Close()
	conn, err := keeper.Dial(r.t.Context(), path)
	must(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	end, err := l.AcceptUnix()
	must(r.t, err)
	r.t.Cleanup(func() { end.Close() })
	for id := uint64(1 << 50); ; id++ { // the smallest message, so that room for it is room for one other
		if err := conn.Put(keeper.Entry{ID: id, Lock: -1, Holder: -1}); errors.Is(err, keeper.ErrFull) {
			break
		}
		must(r.t, err)
	}
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	own := r.b.keeping.conn
	r.b.keeping.conn = conn
	return deaf{
		read: func() {
			if n, err := end.Read(make([]byte, 1024)); n == 0 || err != nil {
				r.t.Errorf("read what was sent to the keeper: %d bytes, %v", n, err)
			}
		},
		end: func() {
			r.b.mu.Lock()
			defer r.b.mu.Unlock()
			r.b.keeping.conn = own
		},
	}
}

// TestAKeeperThatIsFullUndoesTheGrant: a set is granted all or none, so what it had taken of one goes as well.
func TestAKeeperThatIsFullUndoesTheGrant(t *testing.T) {
	full := map[string]func(r *rig, s *shelf, letGo func()) (end func()){
		"does not read": func(r *rig, _ *shelf, _ func()) func() { return r.deafen().end },
		"does not read, but for one message": func(r *rig, _ *shelf, _ func()) func() {
			d := r.deafen()
			d.read()
			return d.end
		},
		"no room": func(_ *rig, s *shelf, letGo func()) func() {
			s.narrow(2)
			return letGo
		},
		"room for one": func(_ *rig, s *shelf, letGo func()) func() {
			s.narrow(3)
			return letGo
		},
	}
	for how, fill := range full {
		for _, life := range []wire.Life{wire.Attached, wire.Detached} {
			t.Run(how+", "+life.String(), func(t *testing.T) {
				r, s := withKeeper(t, nil)
				p := r.dial2()
				had := p.granted(attached(r.file("x"), r.file("y")))
				b, c := r.file("b"), r.file("c")
				end := fill(r, s, func() { p.unlock(had[0].ID, had[1].ID) })
				m := attached(b, c)
				m.Life = life
				e := p.refused(m)
				if e.Code != wire.CodeUnavailable || !strings.Contains(e.Text, "keeper") {
					t.Errorf("%+v", e)
				}
				if !isFree(t, b) || !isFree(t, c) {
					t.Error("refused, and not free")
				}
				if rows := p.rowsOf(p.send(&wire.List{All: true})); len(rows) != 2 || rows[0].ID != had[0].ID || rows[1].ID != had[1].ID {
					t.Errorf("%+v", rows)
				}
				grants, undone := len(r.records(audit.EventGrant))-2, len(r.records(audit.EventRelease))
				if want := 1 + strings.Count(how, "one"); grants != want || undone != want {
					t.Errorf("%d records of grants, %d of their being undone, want %d", grants, undone, want)
				}
				r.checkReplay()
				end()
				p.granted(m) // when there is room again
				var want []uint64
				for _, row := range p.rowsOf(p.send(&wire.List{All: true})) {
					want = append(want, row.ID)
				}
				s.crash()
				if ids := s.inKeeper(nil); !slices.Equal(ids, sortedIDs(want...)) {
					t.Errorf("kept %v, want %v", ids, want)
				}
				s.back()
			})
		}
	}
}

// That a copy cannot be kept is not the log's fault, whatever it is.
func TestWhatCannotBeKeptIsNotBlamedOnTheLog(t *testing.T) {
	r, _ := withKeeper(t, nil)
	p := r.dial2()
	p.granted(attached(r.file("a"))) // so that it is known who he is
	r.b.mu.Lock()
	peer := &r.b.sessions[p.session].who.peer
	right := peer.PidFD
	peer.PidFD = 1 << 20 // EBADF
	r.b.mu.Unlock()
	path := r.file("b")
	if e := p.refused(attached(path)); e.Code != wire.CodeUnavailable || !strings.Contains(e.Text, "keeper") || strings.Contains(e.Text, "log") || !isFree(t, path) {
		t.Errorf("%+v", e)
	}
	r.b.mu.Lock()
	peer.PidFD = right
	r.b.mu.Unlock()
	p.granted(attached(path))
	r.checkReplay()
}

func TestAGraceThatTheKeeperWasNotToldOfIsCountedFromTheNextStart(t *testing.T) {
	var clock still
	r, s := withKeeper(t, clock.drive)
	p := r.dial2()
	path := r.file("a")
	m := attached(path)
	m.Grace = 20 * time.Second
	g := p.granted(m)
	d := r.deafen()
	root := r.dial2()
	root.answer(root.send(&wire.Break{By: wire.ByID, ID: g[0].ID, Reason: "x"}))
	d.end()
	clock.forward(r, time.Second)
	s.crash()
	s.back()
	r.b.endDue(t.Context())
	if isFree(t, path) {
		t.Error("let go at the start, in its grace")
	}
	p.resumed(r)
	if l := p.lost(); l.ID != g[0].ID || l.Grace != 20*time.Second {
		t.Errorf("%+v", l)
	}
	clock.forward(r, 20*time.Second-1)
	r.b.endDue(t.Context())
	if isFree(t, path) {
		t.Error("let go in its grace")
	}
	clock.forward(r, 1)
	eventually(t, "the grace ends", func() bool { return isFree(t, path) })
	r.checkReplay()
}
