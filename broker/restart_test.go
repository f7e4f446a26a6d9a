package broker

import (
	"os"
	"slices"
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

func (r *rig) restart(between func()) {
	r.t.Helper()
	r.halt()
	if between != nil {
		between()
	}
	r.start()
	r.t.Cleanup(r.halt)
	r.checkReplay()
}

// lostRows gives the ids of the lost holds that p is shown.
func (p *peer) lostRows() (ids []uint64) {
	p.t.Helper()
	for _, row := range p.rowsOf(p.send(&wire.List{All: true})) {
		if row.Kind == wire.RowLost {
			ids = append(ids, row.ID)
		}
	}
	return ids
}

func TestWhatCannotBeHadAgainAfterAStopIsLostUntilItsOwnerClearsIt(t *testing.T) {
	r := newRig(t, nil)
	p := r.dial()
	ids := map[string]uint64{}
	for _, name := range []string{"fine", "deleted", "replaced", "taken", "expired", "symlink", "shared"} {
		m := detached(r.file(name))
		switch name {
		case "expired":
			m.TTL = time.Minute
		case "shared":
			m = reader(m)
		}
		ids[name] = p.granted(m)[0].ID
	}
	p.granted(attached(r.file("attached")))
	var taken *os.File
	r.alter = func(_ *audit.Config, c *Config) {
		c.Now = func() time.Time { return time.Now().Add(2 * time.Minute) } // from the restart on
	}
	r.restart(func() {
		must(t, os.Remove(r.files+"/deleted"))
		r.replace(r.files+"/replaced", r.file("new"))
		taken = outsideLock(t, r.files+"/taken")
		must(t, os.Rename(r.files+"/symlink", r.files+"/elsewhere"))
		must(t, os.Symlink("elsewhere", r.files+"/symlink"))
	})
	p = r.dial()
	want := []uint64{ids["deleted"], ids["replaced"], ids["taken"], ids["symlink"]}
	slices.Sort(want)
	got := p.lostRows()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("lost %v, want %v of %v", got, want, ids)
	}
	for _, name := range []string{"fine", "shared"} {
		m := detached(r.files + "/" + name)
		if name == "shared" {
			m = reader(m)
		}
		if g := p.granted(m); !g[0].Already || g[0].ID != ids[name] {
			t.Errorf("%s: %+v, want id %d again", name, g, ids[name])
		}
	}
	if g := p.granted(detached(r.file("later"))); g[0].ID <= slices.Max(want) {
		t.Errorf("token %d after %v", g[0].ID, want)
	}
	if n := len(r.records(audit.EventExpire)); n != 1 {
		t.Errorf("%d ends of leases are recorded", n)
	}
	if n := len(r.records(audit.EventResume)); n != 2 {
		t.Errorf("%d holds are recorded as held again", n)
	}
	if s := p.answer(p.send(&wire.Status{})).(*wire.StatusReply); int(s.Lost) != len(want) {
		t.Errorf("status says %d lost", s.Lost)
	}
	// A lost lock keeps nobody out: its owner has it again once it is there, and the loss still stands.
	taken.Close()
	p.granted(detached(r.files + "/taken"))
	r.restart(nil)
	p = r.dial()
	if got := p.lostRows(); len(got) != 4 {
		t.Errorf("after another restart %v", got)
	}
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: ids["deleted"]})).(*wire.Released); len(rel.IDs) != 1 {
		t.Errorf("by id: %+v", rel)
	}
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{r.files + "/replaced"}})).(*wire.Released); rel.IDs[0] != ids["replaced"] {
		t.Errorf("by path: %+v", rel)
	}
	if rel := p.answer(p.send(&wire.Break{By: wire.ByID, ID: ids["symlink"], Reason: "x"})).(*wire.Released); len(rel.IDs) != 1 {
		t.Errorf("by break: %+v", rel)
	}
	if got := p.lostRows(); len(got) != 1 || got[0] != ids["taken"] {
		t.Errorf("%v", got)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
	if got := p.lostRows(); len(got) != 0 {
		t.Errorf("by all: %v", got)
	}
	r.restart(nil)
	if got := r.dial().lostRows(); len(got) != 0 {
		t.Errorf("cleared, and back after a restart: %v", got)
	}
}

func TestHoldsThatThePolicyOfTheNextRunForbidsAreMarked(t *testing.T) {
	var c changing
	r := newRig(t, c.drive(policyFor("", "/a", "/b")))
	r.dirs("/a", "/b")
	p := r.dial()
	p.granted(detached(r.file("a/x")))
	p.granted(detached(r.file("b/x")))
	r.restart(func() {
		text := policyFor("[[deny]]\nname = \"b is closed\"\nusers = [\"*\"]\npaths = [\"FILES/b\"]\n", "/a", "/b")
		c.text.Store(&text)
	})
	p = r.dial()
	rows := p.rowsOf(p.send(&wire.List{}))
	if len(rows) != 2 || rows[0].Outlawed || !rows[1].Outlawed {
		t.Errorf("%+v", rows)
	}
}

func TestALostLockIsItsOwnersBusinessAndRoots(t *testing.T) {
	needRoot(t, "two users")
	r := newRig(t, twoUsers)
	r.dirs("/mine", "/mine/secret", "/yours")
	a, b := r.dialAs(alice), r.dialAs(bob)
	first, second := a.granted(detached(r.file("yours/x")))[0].ID, a.granted(detached(r.file("yours/y")))[0].ID
	third := b.granted(detached(r.file("mine/z")))[0].ID
	r.restart(func() {
		for _, name := range []string{"/yours/x", "/yours/y", "/mine/z"} {
			must(t, os.Remove(r.files+name))
		}
	})
	a, b = r.dialAs(alice), r.dialAs(bob)
	if got := a.lostRows(); !slices.Equal(got, []uint64{second, first}) && !slices.Equal(got, []uint64{first, second}) {
		t.Errorf("alice sees %v", got)
	}
	if got := b.lostRows(); len(got) != 3 {
		t.Errorf("bob, who may list all, sees %v", got)
	}
	for _, m := range []wire.Message{
		&wire.Unlock{By: wire.ByID, ID: first}, &wire.Unlock{By: wire.ByAll, AnyTag: true}, &wire.Unlock{By: wire.ByPath, Paths: []string{r.files + "/yours/x"}},
	} {
		b.answer(b.send(m))
	}
	if got := a.lostRows(); len(got) != 2 {
		t.Errorf("another user cleared alice's: %v", got)
	}
	a.answer(a.send(&wire.Break{By: wire.ByPath, Path: r.files + "/mine/z", Reason: "she may break there"}))
	root := r.dial()
	if rel := root.answer(root.send(&wire.Unlock{By: wire.ByID, ID: first})).(*wire.Released); len(rel.IDs) != 1 {
		t.Errorf("root: %+v", rel)
	}
	if got := root.lostRows(); !slices.Equal(got, []uint64{second}) {
		t.Errorf("left are %v, want %v without %v", got, second, third)
	}
	r.checkReplay()
}

// After a stop that was none (the copy of a running broker's log is what SIGKILL leaves) attached holds have died with their
// connections, and detached ones that somebody still holds are lost.
func TestAfterAnUncleanStopAttachedHoldsAreDeadAndNumbersGoOn(t *testing.T) {
	old := newRig(t, nil)
	p := old.dial()
	at, de := p.granted(attached(old.file("attached")))[0].ID, p.granted(detached(old.file("detached")))[0].ID
	free := p.granted(detached(old.file("free")))[0].ID
	must(t, old.log.Commit(old.log.Health().Seq, true))
	r := &rig{t: t, dir: t.TempDir(), files: old.files, policy: old.policy, segment: old.segment}
	r.socket = r.dir + "/s"
	must(t, os.CopyFS(r.dir+"/audit", os.DirFS(old.dir+"/audit")))
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: free}))
	r.start()
	t.Cleanup(r.halt)
	r.checkReplay()
	if dead := r.records(audit.EventDeath); len(dead) != 1 || dead[0].ID != at {
		t.Errorf("deaths %+v, want of %d", dead, at)
	}
	q := r.dial()
	if got := q.lostRows(); !slices.Equal(got, []uint64{de}) {
		t.Errorf("lost %v, want %d", got, de)
	}
	if g := q.granted(detached(old.files + "/free")); !g[0].Already || g[0].ID != free {
		t.Errorf("%+v", g)
	}
	if g := q.granted(attached(old.file("new"))); g[0].ID < 1<<20 {
		t.Errorf("token %d: numbers that the other run may have used are used again", g[0].ID)
	}
}

func TestAHoldTakenBackKeepsItsLeaseAndItsPlaceInTheRulesCount(t *testing.T) {
	var clock still
	r := newRig(t, func(r *rig) {
		limited("holds = 3")(r)
		r.policy = rules(r.files, "allow = [\"FILES\"]\n[[rule]]\nname = \"two\"\nusers = [\"*\"]\npaths = [\"FILES\"]\nholds = 2\ncan = [\"lock\"]\n")
		began := time.Now()
		clock.drive(r)
		boot := r.alter
		r.alter = func(l *audit.Config, c *Config) {
			boot(l, c)
			c.Now = func() time.Time { return began.Add(clock.read()) }
		}
	})
	path := r.file("a")
	m := detached(path)
	m.TTL, m.Tag, m.Reason = time.Minute, "t", "nightly"
	p := r.dialUser()
	g := p.granted(m)
	r.restart(func() { clock.at += 20 * time.Second })
	p = r.dialUser()
	rows := p.rowsOf(p.send(&wire.List{}))
	if len(rows) != 1 || rows[0].ID != g[0].ID || !rows[0].Expires.Equal(g[0].Expires) || rows[0].Tag != "t" || rows[0].Reason != "nightly" || rows[0].UID != user() {
		t.Errorf("%+v", rows)
	}
	p.granted(detached(r.file("b")))
	if e := p.refused(detached(r.file("c"))); e.Code != wire.CodeQuota {
		t.Errorf("%+v", e)
	}
	clock.forward(r, 40*time.Second-1)
	r.b.endDue(t.Context())
	if isFree(t, path) {
		t.Error("ended before its time")
	}
	clock.forward(r, 1+time.Millisecond)
	eventually(t, "the lease ends", func() bool { return isFree(t, path) })
	r.checkReplay()
}
