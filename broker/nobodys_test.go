package broker

import (
	"os"
	"slices"
	"testing"

	"locker/audit"
	"locker/keeper"
	"locker/wire"
)

// garble has the keeper say something about its entries that is not understood, as one of another version would.
func (s *shelf) garble() {
	s.r.t.Helper()
	s.inKeeper(func(c *keeper.Conn, entries []keeper.Entry) {
		for _, e := range entries {
			words := slices.Clone(e.Blob)
			words[0] = blobVersion + 1
			must(s.r.t, c.Set(e.ID, words))
		}
	})
}

// Point for point: a lock that was answered is never let go because nobody knows whose it is.
func TestALockThatNobodyExplainsIsAnOrphanUntilRootBreaksIt(t *testing.T) {
	r, s := withKeeper(t, nil)
	p, q := r.dial2(), r.dial2()
	paths := []string{r.file("a"), r.file("b"), r.file("c"), r.bundle("d.sparsebundle", "token", "bands/")}
	p.granted(attached(paths[0]))
	p.granted(detached(paths[1]))
	p.granted(reader(detached(paths[2])))
	p.granted(attached(paths[3]))
	q.queued(q.send(attached(paths[0]))) // its place is given up
	gone := startChild(t, "keen", r.socket, r.file("e"))
	s.leave()
	gone.end()
	must(t, os.RemoveAll(r.dir+"/audit"))
	s.garble()
	held := func() {
		t.Helper()
		for _, path := range paths {
			if isFree(t, locked(path)) {
				t.Errorf("%s is free", path)
			}
		}
		root := r.dial2()
		rows := root.rowsOf(root.send(&wire.List{All: true}))
		if len(rows) != len(paths) {
			t.Fatalf("%+v", rows)
		}
		for i, row := range rows {
			mode := wire.Exclusive
			if i == 2 {
				mode = wire.Shared
			}
			if row.Kind != wire.RowOrphan || row.Path != locked(paths[i]) || row.UID != nobody || row.Mode != mode || row.Life != wire.Detached {
				t.Errorf("%+v", row)
			}
		}
		r.checkReplay()
	}
	s.back()
	held()
	if !isFree(t, r.files+"/e") {
		t.Error("held for a process that has ended")
	}
	s.crash() // now the log tells that they are nobody's, and the keeper is not understood
	s.back()
	held()
	s.crash() // and then the log alone
	s.end()
	s.start()
	s.back()
	held()
	if e, ok := p.again(r).(*wire.Error); !ok || e.Code != wire.CodeLost {
		t.Errorf("%+v", e)
	}
	if e := p.refused(try(detached(paths[1]))); e.Code != wire.CodeBusy {
		t.Errorf("%+v", e)
	}
	if m := p.answer(p.send(&wire.Unlock{By: wire.ByAll, AnyTag: true})).(*wire.Released); len(m.IDs) != 0 {
		t.Errorf("%+v: nobody's is not root's", m)
	}
	for _, row := range p.rowsOf(p.send(&wire.List{All: true})) {
		if m := p.answer(p.send(&wire.Break{By: wire.ByID, ID: row.ID, Reason: "nobody's"})).(*wire.Released); len(m.IDs) != 1 {
			t.Errorf("%+v", m)
		}
	}
	for _, path := range paths {
		if !isFree(t, locked(path)) {
			t.Errorf("%s is broken and not free", path)
		}
	}
	r.checkReplay()
}

// With its log whole a broker understands without the keeper's words whose a lock is; and that it was never answered.
func TestALogThatIsWholeExplainsWhatTheKeeperDoesNot(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	m := attached(r.file("a"))
	id := p.send(m)
	g := grants(t, p.answer(id))
	s.crash()
	s.garble()
	s.inKeeper(func(c *keeper.Conn, entries []keeper.Entry) {
		f := outsideLock(t, r.file("b"))
		must(t, c.Put(keeper.Entry{ID: g[0].ID + 1, Blob: []byte("?"), Lock: int(f.Fd()), Holder: -1}))
		must(t, f.Close())
	})
	s.back()
	if ids := p.resumed(r); !slices.Equal(ids, []uint64{g[0].ID}) {
		t.Errorf("resumed with %v, want %v", ids, g)
	}
	if !isFree(t, r.files+"/b") {
		t.Error("what was never answered is held")
	}
	p.repeat(id, m)
	if got := grants(t, p.answer(id)); !slices.Equal(got, g) {
		t.Errorf("%+v, want %+v", got, g)
	}
	if rec := r.records(audit.EventLost, audit.EventDeath, audit.EventRelease); len(rec) != 0 {
		t.Errorf("%+v", rec)
	}
}
