package broker

import (
	"fmt"
	"testing"
	"time"

	"locker/audit"
	"locker/authz"
)

// Its owner makes a bundle's directory slow to read, by a million names that were there once: that is not the guard's fault, with
// which everybody's bundles would be let go.
func TestWhoseBundleIsSlowToReadCostsNobodyTheGuard(t *testing.T) {
	const long = 5 * time.Second
	f := newFenced(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) { c.times.guard = long }
	})
	others, token := f.mac()
	p := f.dial()
	g := p.granted(detached(others))
	rest(t, g, guardedRests)
	arrived, goOn := f.pauseWards()
	id := p.send(attached(f.bundle("slow.sparsebundle", "token", "bands/")))
	<-arrived
	<-time.After(long + time.Millisecond) // what a claim had for all of it together
	goOn()
	rest(t, grants(t, p.answer(id)), guardedRests)
	if gone := f.guardRecords(guardGone); len(gone) != 0 {
		t.Errorf("recorded %+v", gone)
	}
	if rests := p.restsOfRow(g[0].ID); rests != guardedRests {
		t.Errorf("the other's rests on %v", rests.Names())
	}
	startOpens(t, f.server).mayNot("write", token)
}

func TestNobodysSlowBundlesKeepThoseOfOthersFromTheGuard(t *testing.T) {
	needRoot(t, "two users")
	f := newFenced(t, limited(""))
	arrived, goOn := f.pauseWards()
	a, b := f.dialAs(alice), f.dialAs(bob)
	var slow []uint32
	for i := range 8 {
		slow = append(slow, a.send(attached(f.bundle(fmt.Sprintf("slow%d.sparsebundle", i), "token", "bands/"))))
	}
	for range authz.DefaultLimits().Opens {
		<-arrived
	}
	f.mu.Lock()
	f.before = nil // of the next ones
	f.mu.Unlock()
	bundle, token := f.mac()
	rest(t, b.granted(attached(bundle)), guardedRests)
	startOpens(t, f.server).mayNot("write", token)
	goOn()
	for _, id := range slow {
		grants(t, a.answer(id))
	}
}
