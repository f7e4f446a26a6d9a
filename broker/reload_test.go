package broker

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// changing is a policy whose text a test changes.
type changing struct{ text atomic.Pointer[string] }

func (c *changing) drive(text string) func(*rig) {
	c.text.Store(&text)
	return func(r *rig) {
		r.policy = func() (*authz.Policy, error) { return rules(r.files, *c.text.Load())() }
	}
}

func (c *changing) to(r *rig, text string) ([]string, error) {
	c.text.Store(&text)
	return r.b.Reload(r.t.Context())
}

const allOf = `
[[rule]]
name = "%s"
users = ["*"]
paths = ["FILES%s"]
can = ["lock", "lock-shared", "list"]
`

func policyFor(settings string, dirs ...string) string {
	text := "allow = [\"FILES\"]\n" + settings
	for _, dir := range dirs {
		text += fmt.Sprintf(allOf, "all below "+dir, dir)
	}
	return text
}

func (r *rig) dirs(names ...string) {
	for _, name := range names {
		must(r.t, os.Mkdir(r.files+name, 0o755))
	}
}

func TestABadPolicyLeavesTheOldOneInForceAndSaysSo(t *testing.T) {
	var c changing
	r := newRig(t, c.drive(policyFor("", "/a")))
	r.dirs("/a", "/b")
	p := r.dial()
	status := func() *wire.StatusReply { return p.answer(p.send(&wire.Status{})).(*wire.StatusReply) }
	before := status()
	for _, bad := range []string{"allow = [", policyFor("", "/a") + "\n[[rule]]\nname = \"no subject\"\npaths = [\"FILES\"]\ncan = [\"lock\"]\n", "nonsense = 1\n"} {
		if _, err := c.to(r, bad); err == nil {
			t.Fatalf("taken: %s", bad)
		}
		now := status()
		if now.PolicyError == "" || now.PolicySHA256 != before.PolicySHA256 || now.PolicyLoaded != before.PolicyLoaded || now.Rules != before.Rules {
			t.Errorf("%q: %+v", bad, now)
		}
		p.granted(attached(r.file("a/x")))
	}
	if n := len(r.records(audit.EventPolicyRefused)); n != 3 {
		t.Errorf("%d refused policies are recorded", n)
	}
	lines, err := c.to(r, policyFor("", "/a", "/b"))
	if err != nil || !strings.Contains(strings.Join(lines, "\n"), "all below /b") {
		t.Errorf("%q %v", lines, err)
	}
	if now := status(); now.PolicyError != "" || now.PolicySHA256 == before.PolicySHA256 || now.Rules != 2 {
		t.Errorf("%+v", now)
	}
	p.granted(attached(r.file("b/x")))
	if m, ok := p.answer(p.send(&wire.Reload{})).(*wire.Reloaded); !ok {
		t.Errorf("%+v", m)
	}
}

func TestAReloadRefusesClaimsThatItForbidsAndMarksHolds(t *testing.T) {
	var c changing
	r := newRig(t, c.drive(policyFor("", "/a", "/b")))
	r.dirs("/a", "/b")
	needRoot(t, "a user whom the policy can refuse")
	holder, p := r.dialAs(alice), r.dialAs(alice)
	a, b := r.file("a/x"), r.file("b/x")
	g := holder.granted(attached(a, b))
	stays, queued, set := p.send(attached(a)), p.send(attached(b)), p.send(attached(a, b))
	outside := r.file("b/outside")
	f := outsideLock(t, outside)
	head, behind := p.send(attached(outside)), p.send(attached(outside))
	leased := r.file("b/leased")
	lease := startChild(t, "lease", leased)
	opening := p.send(attached(leased))
	for _, id := range []uint32{stays, queued, set, head, behind, opening} {
		p.queued(id)
	}
	if _, err := c.to(r, policyFor("", "/a")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint32{queued, set, head, behind, opening} {
		if e := asError(t, p.answer(id)); e.Code != wire.CodeDenied {
			t.Errorf("request %d: %+v", id, e)
		}
	}
	f.Close()
	lease.end()
	for _, row := range holder.rowsOf(holder.send(&wire.List{})) {
		if row.Kind == wire.RowHolder && row.Outlawed != (row.Path == b) {
			t.Errorf("%+v", row)
		}
	}
	if isFree(t, b) {
		t.Error("an outlawed hold was taken away")
	}
	if !isFree(t, outside) || !isFree(t, leased) {
		t.Error("a forbidden claim was granted")
	}
	holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	grants(t, p.answer(stays))
	if e := p.refused(attached(b)); e.Code != wire.CodeDenied {
		t.Errorf("%+v", e)
	}
	if _, err := c.to(r, policyFor("", "/a", "/b")); err != nil {
		t.Fatal(err)
	}
	for _, row := range holder.rowsOf(holder.send(&wire.List{})) {
		if row.Outlawed {
			t.Errorf("still outlawed: %+v", row)
		}
	}
	r.checkReplay()
}

func TestAReloadReachesClaimsWhoseFilesAreBeingOpened(t *testing.T) {
	var c changing
	r := newRig(t, c.drive(policyFor("[limits]\nopens = 4\n", "/a", "/b")))
	needRoot(t, "a user whom the policy can refuse")
	r.dirs("/a", "/b")
	path := r.file("b/x")
	holder, p := r.dial(), r.dialAs(alice)
	holder.granted(attached(path))
	r.b.mu.Lock()
	a := r.b.accounts[alice]
	r.b.mu.Unlock()
	a.opens.set(0)
	id := p.send(attached(path))
	eventually(t, "it wants to open its file", func() bool { return r.requestOf(p, id, func(*request) {}) })
	if _, err := c.to(r, policyFor("[limits]\nopens = 3\n", "/a")); err != nil { // gives the slots back, too
		t.Fatal(err)
	}
	if e := asError(t, p.answer(id)); e.Code != wire.CodeDenied {
		t.Errorf("%+v", e)
	}
	p.undisturbed()
}

// What a rule says about how files are opened holds for claims that have opened theirs already.
func TestAReloadThatForbidsHardLinksOrAnEngineReachesClaimsThatWait(t *testing.T) {
	var c changing
	text := func(more string) string {
		return "allow = [\"FILES\"]\n[[rule]]\nname = \"all\"\nusers = [\"*\"]\npaths = [\"FILES\"]\n" + more + "can = [\"lock\"]\n"
	}
	r := newRig(t, c.drive(text("hardlinks = true\n")))
	needRoot(t, "a user whom the policy can refuse")
	one, plain := r.file("one"), r.file("plain")
	must(t, os.Link(one, r.files+"/two"))
	holder, p := r.dial(), r.dialAs(alice)
	for _, path := range []string{one, plain} {
		f := outsideLock(t, path)
		defer f.Close()
		id := p.send(attached(path))
		p.queued(id)
		if _, err := c.to(r, text("engines = [\"flock\"]\n")); err != nil {
			t.Fatal(err)
		}
		f.Close()
		switch m := p.answer(id).(type) {
		case *wire.Error:
			if path != one || m.Code != wire.CodeUnsupported {
				t.Errorf("%s: %+v", path, m)
			}
		case *wire.Granted:
			if path != plain || m.Grants[0].Rests != wire.RestFlock {
				t.Errorf("%s: %+v", path, m)
			}
		}
		if _, err := c.to(r, text("hardlinks = true\n")); err != nil {
			t.Fatal(err)
		}
	}
	holder.undisturbed()
	r.checkReplay()
}
