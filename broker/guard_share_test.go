package broker

import (
	"testing"

	"locker/wire"
)

// How many directories a bundle has is up to its owner, and the guard has room for so many of all users together.
func TestNobodyHasMoreGuardedThanHisShare(t *testing.T) {
	needRoot(t, "two users")
	f := newFenced(t, limited(""))
	counted := func(uid uint32) int {
		f.b.mu.Lock()
		defer f.b.mu.Unlock()
		return f.b.guarding.dirs[uid]
	}
	f.b.mu.Lock()
	f.b.guarding.dirs[alice] = guardedEach - 2
	f.b.mu.Unlock()
	first, second, third := f.bundle("a.sparsebundle", "token", "bands/"), f.bundle("b.sparsebundle", "token", "bands/"), f.bundle("c.sparsebundle", "token", "bands/")
	a, b := f.dialAs(alice), f.dialAs(bob)
	g := a.granted(attached(first))
	rest(t, g, guardedRests)
	rest(t, a.granted(attached(second)), idleRests)
	rest(t, b.granted(attached(third)), guardedRests)
	if found := f.guardRecords(guardUnguarded); len(found) != 1 || found[0].Path != second || found[0].Text != errGuardedEach.Error() {
		t.Errorf("recorded as %+v", found)
	}
	a.answer(a.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	if n := counted(alice); n != guardedEach-2 {
		t.Errorf("%d are counted when it is released", n)
	}
	rest(t, a.granted(attached(first)), guardedRests)
	f.fell()
	f.awaitState("down")
	if n := counted(alice); n != 0 {
		t.Errorf("%d are counted without a guard", n)
	}
}

// A new guard is told of everybody's bundles at once, and heard meanwhile.
func TestNobodysSlowBundleKeepsTheHoldsOfOthersFromTheNextGuard(t *testing.T) {
	needRoot(t, "two users")
	f := newFenced(t, limited(""))
	a, b := f.dialAs(alice), f.dialAs(bob)
	grants := []wire.Grant{
		a.granted(attached(f.bundle("a.sparsebundle", "token", "bands/")))[0],
		b.granted(attached(f.bundle("b.sparsebundle", "token", "bands/")))[0],
	}
	f.fell()
	f.awaitState("down")
	arrived, goOn := f.pauseWards()
	guarded := func() (n int) {
		f.b.mu.Lock()
		defer f.b.mu.Unlock()
		for _, g := range grants {
			if f.b.table.byID(g.ID).info.ward != nil {
				n++
			}
		}
		return n
	}
	f.raise()
	<-arrived
	<-arrived // both are being read: nobody waits for the other
	if n := guarded(); n != 0 {
		t.Errorf("%d are guarded", n)
	}
	f.fell() // and what is slow for one guard is told to the next one
	f.awaitState("down")
	f.raise()
	f.awaitState("on")
	goOn()
	eventually(t, "both are guarded", func() bool { return guarded() == 2 })
	eventually(t, "nobody tells it any more", func() bool {
		f.b.mu.Lock()
		defer f.b.mu.Unlock()
		return len(f.b.guarding.telling) == 0
	})
}
