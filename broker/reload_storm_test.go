package broker

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"locker/authz"
	"locker/wire"
)

func TestLimitsApplyFromTheReloadOn(t *testing.T) {
	var c changing
	r := newRig(t, c.drive(policyFor("", "/a")))
	r.dirs("/a")
	p, q := r.dialUser(), r.dialUser()
	paths := []string{r.file("a/1"), r.file("a/2"), r.file("a/3"), r.file("a/4")}
	p.granted(attached(paths[0], paths[1]))
	if _, err := c.to(r, policyFor("[limits]\nconnections = 2\nholds = 2\nwaiters = 1\nopens = 1\nunsent = \"64KiB\"\n", "/a")); err != nil {
		t.Fatal(err)
	}
	if e := q.refused(attached(paths[2])); e.Code != wire.CodeQuota {
		t.Errorf("holds: %+v", e)
	}
	if os.Geteuid() == 0 {
		r.dialMuteUser().turnedAway("you have as many connections as you may")
	}
	r.b.mu.Lock()
	account := r.b.accounts[user()]
	r.b.mu.Unlock()
	if account.opens.limit != 1 {
		t.Errorf("opens: %d", account.opens.limit)
	}
	if _, err := c.to(r, policyFor("[limits]\nholds = 3\nwaiters = 1\n", "/a")); err != nil {
		t.Fatal(err)
	}
	q.granted(attached(paths[2]))
	r.dialUser()
	if got := account.opens.limit; got != authz.DefaultLimits().Opens {
		t.Errorf("opens: %d", got)
	}
	r.checkReplay()
}

// Under load a reload is all or nothing: what both policies allow is always granted, the rest granted or denied, and every
// request has one answer.
func TestAReloadStormUnderLoadRefusesNothingThatAllPoliciesAllow(t *testing.T) {
	var c changing
	both, one := policyFor("", "/a", "/b"), policyFor("[limits]\nholds = 500\n", "/a")
	r := newRig(t, c.drive(both))
	needRoot(t, "a user whom the policy can refuse")
	r.dirs("/a", "/b")
	base := r.atRestAt("a/rest")
	files := []string{r.file("a/1"), r.file("a/2"), r.file("b/1"), r.file("b/2")}
	stop := make(chan struct{})
	var clients, storm sync.WaitGroup
	var denied, granted atomic.Int64
	for n := range 6 {
		p := r.dialAs(alice)
		clients.Go(func() {
			defer p.conn.Close()
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := attached(files[i%4])
				if i%3 == 0 {
					m = detached(files[i%4], files[(i+1)%4])
					m.Tag = fmt.Sprint(n)
				}
				id := p.send(m)
				switch a := p.answer(id).(type) {
				case *wire.Granted:
					granted.Add(1)
					p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: m.Paths, Tag: m.Tag}))
				case *wire.Error:
					denied.Add(1)
					if a.Code != wire.CodeDenied && a.Code != wire.CodeDeadlock || len(m.Paths) == 1 && strings.Contains(m.Paths[0], "/a/") {
						t.Errorf("%q: %+v", m.Paths, a)
					}
				}
				p.kept = nil
			}
		})
	}
	storm.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := range 300 {
			<-tick.C
			if _, err := c.to(r, []string{one, both, "not a policy"}[i%3]); (err != nil) != (i%3 == 2) {
				t.Errorf("reload %d: %v", i, err)
			}
		}
	})
	storm.Wait()
	close(stop)
	clients.Wait()
	t.Logf("%d granted, %d denied", granted.Load(), denied.Load())
	if granted.Load() == 0 || denied.Load() == 0 {
		t.Error("the storm has tested nothing")
	}
	r.settles(base)
	r.checkReplay()
}
