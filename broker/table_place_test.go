package broker

import (
	"testing"
)

func TestQuotas(t *testing.T) {
	t.Run("holds of a uid, what it waits for included", func(t *testing.T) {
		tblPlay(t, limits{holds: 3, holdsAll: 100, waiters: 100, waitersAll: 100}, `
			h x E = granted
			a1 x F = granted
			a2 x G = granted
			a1 x H,I = quota-holds
			a1 x E = queued
			a2 x I = quota-holds    # it may get E any time
			a2 xn I = quota-holds
			a1 x F = satisfied      # what is held already costs nothing
			a1 cancel =
			a2 x I = granted
			a2 free G =
			a1 x H = granted
			b x J = granted`)
	})
	t.Run("holds of all, of which root has a reserve", func(t *testing.T) {
		tblPlay(t, limits{holds: 100, holdsAll: 64, waiters: 100, waitersAll: 100}, `
			a x A,B,C,D,E,F,G,H,I,J,K,L,M,N,O,P,Q,R,S,T,U,V,W,X,Y,Z = granted
			b x a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,0,1,2,3,4,5 = granted
			c x 6,7,8,9,!,? = quota-holds
			c x 6,7,8,9,! = quota-holds
			c x 6,7,8,9 = granted
			d x ! = quota-holds
			root x ! = granted
			root x ? = granted
			root x + = quota-holds
			c free 6 =
			d x 6 = quota-holds
			root x 6 = granted`)
	})
	t.Run("waiters of a uid", func(t *testing.T) {
		tblPlay(t, limits{holds: 100, holdsAll: 100, waiters: 2, waitersAll: 100}, `
			h x F = granted
			a1 x F = queued
			a2 x F = queued
			a3 x F = quota-waiters
			a3 xn F = blocked       # who does not wait needs no place
			a3 x G = granted
			b1 x F = queued
			h free F = a1 granted
			a3 x F = queued`)
	})
	t.Run("waiters of all", func(t *testing.T) {
		s := tblPlay(t, limits{holds: 1000, holdsAll: 1000, waiters: 1000, waitersAll: 32}, `h x F = granted`)
		for i := range 31 {
			s.add(owner{uid: uint32(i + 1)}, exclusive, tblFiles("F"), true)
		}
		if s.do([]string{"z", "x", "F"}) != "quota-waiters" || s.do([]string{"root", "x", "F"}) != "queued" {
			t.Error("the last place is not root's")
		}
		if s.do([]string{"root", "x", "F"}) != "quota-waiters" {
			t.Error("root may have more than all")
		}
	})
	t.Run("lower limits take nothing away", func(t *testing.T) {
		s := tblPlay(t, tblRoomy, `
			a x F = granted
			a x G = granted
			b x F = queued`)
		s.setLimits(limits{})
		s.do([]string{"a", "free", "F"})
		if s.holding("F") != "b" || s.do([]string{"a", "x", "F"}) != "quota-holds" {
			t.Error("F:", s.holding("F"))
		}
	})
}

func TestRekeyKeepsThePlace(t *testing.T) {
	s := tblPlay(t, tblRoomy, `
		h x F = granted
		a px F = queued
		b px F = queued
		h free F = a pending
		a rekey N = pending, b pending  # the file was replaced: a found it out, now b will
		c px N = queued
		b rekey N = queued`)
	if got, want := s.queued("N"), "a b c"; got != want {
		t.Errorf("queue %s, want %s: b came before c", got, want)
	}
	s = tblPlay(t, tblRoomy, `
		h x F,G = granted
		a1 x F,G = queued
		a2 x F = queued
		b x F = queued
		a1 rekey F,N = queued`)
	if got, want := s.queued("F"), "a1 b a2"; got != want {
		t.Errorf("queue %s, want %s: a1 never left F", got, want)
	}
	tblLaws(t, map[string]string{
		"to what its owner holds": `
			a x N = granted
			a:new px F = pending
			b x F = queued
			a:new rekey N = satisfied, b granted`,
		"to what its owner holds in the other mode": `
			a s N = granted
			a:new px F = pending
			a:new rekey N = conversion`,
		"into a cycle": `
			a x N = granted
			b x M = granted
			a x M = queued
			b:new px F = pending
			b:new rekey N = deadlock via a b`,
		"no quota of waiters stands in its way": `
			h x N = granted
			a px F = pending
			a rekey N = queued
			h free N = a pending`,
	})
}

func TestPositionCountsThoseWhoGoFirst(t *testing.T) {
	s := tblPlay(t, tblRoomy, `
		h x F = granted
		h x G = granted
		a px F = queued
		b x F = queued
		c x G = queued
		d x F,G = queued
		h free F = a pending`)
	for name, want := range map[string]int{"a": 1, "b": 2, "c": 1, "d": 3} {
		if got := s.t.position(s.claims[name]); got != want {
			t.Errorf("position of %s: %d, want %d", name, got, want)
		}
	}
	s.do([]string{"a", "cancel"})
	if got := s.t.position(s.claims["a"]); got != 0 {
		t.Errorf("position of a claim that is gone: %d", got)
	}
}

func TestRestoredHoldsCountAndKeepOthersOut(t *testing.T) {
	p := tblNewPair(t, limits{holds: 2, holdsAll: 100, waiters: 1, waitersAll: 1})
	for i := range 5 { // more than the limits allow
		p.restore(tblWho("a"), exclusive, key{1, uint64(i)})
	}
	p.restore(tblWho("b"), shared, key{1, 9})
	p.restore(tblWho("c"), shared, key{1, 9})
	if _, v := p.add(tblWho("d"), exclusive, []key{{1, 3}}, false); v != blocked {
		t.Errorf("verdict %d, want blocked", v)
	}
	if _, v := p.add(tblWho("a"), exclusive, []key{{1, 3}}, true); v != satisfied {
		t.Errorf("verdict %d, want satisfied", v)
	}
	if _, v := p.add(tblWho("a"), exclusive, []key{{1, 7}}, true); v != quotaHolds {
		t.Errorf("verdict %d, want quotaHolds", v)
	}
	tblEnd(p)
}

// The broker's own bugs must not become wrong grants.
func TestTableRefusesBrokenCalls(t *testing.T) {
	fresh := func() (*table, *claim) {
		return newTable(tblRoomy), &claim{owner: owner{uid: 1}, uid: 1, mode: exclusive, keys: []key{{1, 1}, {1, 2}}}
	}
	for name, call := range map[string]func(t *table, c *claim){
		"no mode":         func(t *table, c *claim) { c.mode = 0; t.add(c) },
		"unknown mode":    func(t *table, c *claim) { c.mode = 3; t.add(c) },
		"no keys":         func(t *table, c *claim) { c.keys = nil; t.add(c) },
		"keys not sorted": func(t *table, c *claim) { c.keys[0].ino = 9; t.add(c) },
		"a key twice":     func(t *table, c *claim) { c.keys[0] = c.keys[1]; t.add(c) },
		"another uid":     func(t *table, c *claim) { c.uid = 2; t.add(c) },
		"added twice":     func(t *table, c *claim) { t.add(c); t.add(c) },
		"too few ids":     func(t *table, c *claim) { t.add(c); t.grant(c, []uint64{1}) },
		"an id twice":     func(t *table, c *claim) { t.add(c); t.grant(c, []uint64{1, 1}) },
		"granted twice":   func(t *table, c *claim) { t.add(c); t.grant(c, []uint64{1, 2}); t.grant(c, []uint64{3, 4}) },
		"granted unasked": func(t *table, c *claim) { t.grant(c, []uint64{1, 2}) },
		"rekeyed unasked": func(t *table, c *claim) { t.rekey(c, c.keys) },
		"restored too late": func(t *table, c *claim) {
			t.add(c)
			t.restore(&hold{id: 1, key: key{1, 1}, mode: shared})
		},
		"granted over a hold": func(t *table, c *claim) {
			t.add(c)
			h, _ := t.grant(c, []uint64{1, 2})
			d := &claim{owner: c.owner, uid: 1, mode: exclusive, keys: []key{{1, 2}, {1, 3}}}
			t.add(d)
			t.markEnding(h[1]) // d needs it again, and it is not free yet
			t.grant(d, []uint64{3, 4})
		},
	} {
		tb, c := fresh()
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call(tb, c)
		}()
	}
	// What can happen when two of the broker's goroutines had the same idea is no bug.
	tb, c := fresh()
	tb.add(c)
	h, _ := tb.grant(c, []uint64{1, 2})
	if tb.abandon(c) != nil || tb.release(h[0]) != nil || tb.release(h[0]) != nil || tb.markEnding(h[0]) != nil {
		t.Error("events from what had ended already")
	}
	tb.release(h[1])
	if err := tb.empty(); err != nil {
		t.Error(err)
	}
}
