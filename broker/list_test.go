package broker

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

const carol = 65533

// threeUsers is a policy under which all may lock, bob may list everything and carol what is below shared.
func threeUsers(r *rig) {
	r.policy = rules(r.files, `
allow = ["FILES"]
[[rule]]
name = "all lock"
users = ["*"]
paths = ["FILES"]
can = ["lock", "lock-shared"]
[[rule]]
name = "bob lists"
users = [65532]
paths = ["FILES"]
can = ["list"]
[[rule]]
name = "carol lists what is shared"
users = [65533]
paths = ["FILES/shared"]
can = ["list"]
`)
	must(r.t, os.Mkdir(r.files+"/shared", 0o755))
}

func TestWhoMayNotListLearnsOnlyThatSomebodyIsInTheWay(t *testing.T) {
	needRoot(t, "several users")
	r := newRig(t, threeUsers)
	path, second, third := r.file("x"), r.file("y"), r.file("z")
	a, b, c := r.dialAs(alice), r.dialAs(bob), r.dialAs(carol)
	m := attached(path)
	m.Reason = "a secret"
	b.granted(m)
	outsideLock(t, third)

	hidden := func(name string, got []wire.Blocker, kinds ...wire.BlockerKind) {
		t.Helper()
		var want []wire.Blocker
		for _, k := range kinds {
			want = append(want, wire.Blocker{Kind: k, Hidden: true})
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	e := a.refused(try(attached(path)))
	hidden("busy", e.Blockers, wire.Holder)
	if e.Path != path {
		t.Errorf("busy: %+v", e)
	}
	hidden("timeout", a.refused(timed(attached(path), 1)).Blockers, wire.Holder)
	hidden("busy outside", a.refused(try(attached(third))).Blockers, wire.Outside)
	cs := c.send(attached(path))
	hidden("carol queued", c.queued(cs).Blockers, wire.Holder)
	as := a.send(attached(path))
	hidden("queued", a.queued(as).Blockers, wire.Holder, wire.Waiter)
	hidden("where", a.queued(a.send(&wire.Where{Target: as})).Blockers, wire.Holder, wire.Waiter)
	out := a.send(attached(third))
	hidden("queued outside", a.queued(out).Blockers, wire.Outside)

	d := r.dialAs(alice)
	d.granted(attached(second))
	b.queued(b.send(attached(second)))
	e = d.refused(attached(path))
	if e.Code != wire.CodeDeadlock {
		t.Fatalf("%+v", e)
	}
	for _, x := range e.Blockers {
		if !x.Hidden || x != (wire.Blocker{Kind: x.Kind, Hidden: true}) {
			t.Errorf("deadlock: %+v", x)
		}
	}

	// bob may list, and so may root; oneself one always sees.
	for name, p := range map[string]*peer{"bob": r.dialAs(bob), "root": r.dial()} {
		e := p.refused(try(attached(path)))
		if len(e.Blockers) != 3 || e.Blockers[0].UID != bob || e.Blockers[0].Reason != "a secret" || e.Blockers[0].Command == "" ||
			e.Blockers[1].UID != carol || e.Blockers[2].UID != alice || e.Blockers[2].PID != int32(os.Getpid()) {
			t.Errorf("%s: %+v", name, e)
		}
		if e := p.refused(try(attached(third))); len(e.Blockers) != 1 || e.Blockers[0].Kind != wire.Waiter || e.Blockers[0].UID != alice {
			t.Errorf("%s: %+v", name, e)
		}
		waits := p.send(attached(third))
		q := p.queued(waits)
		if len(q.Blockers) != 1 || q.Blockers[0].UID != alice {
			t.Errorf("%s: %+v", name, q)
		}
		p.send(&wire.Cancel{Target: waits}) // so that the next one does not find him there
		p.answer(waits)
	}
	if e := r.dialAs(alice).refused(try(attached(second))); len(e.Blockers) != 2 || e.Blockers[0].UID != alice || !e.Blockers[1].Hidden {
		t.Errorf("one's own: %+v", e)
	}
}

func TestAListShowsOnesOwnAndWhatOneMayList(t *testing.T) {
	needRoot(t, "several users")
	r := newRig(t, threeUsers)
	x, s, w := r.file("x"), r.file("shared/s"), r.file("w")
	people := map[string]*peer{"alice": r.dialAs(alice), "bob": r.dialAs(bob), "carol": r.dialAs(carol), "root": r.dial()}
	people["alice"].granted(attached(x))
	people["alice"].granted(attached(s))
	people["bob"].granted(attached(w))
	for _, path := range []string{x, s} {
		for _, name := range []string{"bob", "carol"} {
			people[name].queued(people[name].send(attached(path)))
		}
	}
	startChild(t, "flock", r.file("o"))
	people["root"].queued(people["root"].send(attached(r.files + "/o")))
	row := func(kind wire.RowKind, path string, uid uint32, position int) string {
		return fmt.Sprintf("%d %s %d %d", kind, path[len(r.files):], uid, position)
	}
	alices := []string{row(wire.RowHolder, x, alice, 0), row(wire.RowHolder, s, alice, 0)}
	bobs := []string{row(wire.RowHolder, w, bob, 0), row(wire.RowWaiter, x, bob, 1), row(wire.RowWaiter, s, bob, 1)}
	carols := []string{row(wire.RowWaiter, x, carol, 2), row(wire.RowWaiter, s, carol, 2)}
	roots := []string{row(wire.RowWaiter, r.files+"/o", 0, 1)}
	outside := []string{row(wire.RowOutside, r.files+"/o", 0, 0)}
	for _, c := range []struct {
		who  string
		all  bool
		want [][]string
	}{
		{"alice", false, [][]string{alices}},
		{"alice", true, [][]string{alices}},
		{"carol", false, [][]string{carols}},
		{"carol", true, [][]string{carols, {alices[1], bobs[2]}}},
		{"bob", false, [][]string{bobs}},
		{"bob", true, [][]string{alices, bobs, carols, roots, outside}},
		{"root", false, [][]string{roots, outside}},
		{"root", true, [][]string{alices, bobs, carols, roots, outside}},
	} {
		var got []string
		p := people[c.who]
		want := slices.Concat(c.want...)
		eventually(t, "a search for who is outside is not cut off by its clock", func() bool {
			got = nil
			for _, l := range p.rowsOf(p.send(&wire.List{All: c.all})) {
				got = append(got, row(l.Kind, l.Path, l.UID, int(l.Position)))
				if l.Mine != (l.UID == map[string]uint32{"alice": alice, "bob": bob, "carol": carol}[c.who] && l.Kind != wire.RowOutside) {
					t.Errorf("%s: mine: %+v", c.who, l)
				}
			}
			return !slices.Contains(want, outside[0]) || slices.Contains(got, outside[0])
		})
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s, all %v\n got %q\nwant %q", c.who, c.all, got, want)
		}
	}
}

func TestWhatIsForAdministratorsIsRefusedToOthersAndRecorded(t *testing.T) {
	needRoot(t, "another user")
	loads := 0
	r := newRig(t, func(r *rig) {
		threeUsers(r)
		good := r.policy
		r.policy = func() (*authz.Policy, error) {
			if loads++; loads > 1 {
				return nil, errors.New("test.toml:3: the administrator's mistake")
			}
			return good()
		}
	})
	a, root := r.dialAs(alice), r.dial()
	if e := root.refused(&wire.Reload{}); e.Code != wire.CodeUnavailable {
		t.Errorf("%+v", e)
	}
	for name, m := range map[string]wire.Message{
		"reload": &wire.Reload{}, "explain": &wire.Explain{User: "root", Action: "lock", Path: r.files},
	} {
		if e := a.refused(m); e.Code != wire.CodeDenied {
			t.Errorf("%s: %+v", name, e)
		}
		denied := r.records(audit.EventDeny)
		if len(denied) == 0 || denied[len(denied)-1].Mode != name || denied[len(denied)-1].UID != alice {
			t.Errorf("%s: recorded as %+v", name, denied)
		}
	}
	if loads != 2 {
		t.Errorf("the policy was read %d times", loads)
	}
	if x, ok := root.answer(root.send(&wire.Explain{User: "65531", Action: "lock", Path: r.files + "/x"})).(*wire.Explained); !ok || !x.Allowed {
		t.Errorf("%+v", x)
	}
	a.granted(detached(r.file("x")))
	mine := a.answer(a.send(&wire.Status{})).(*wire.StatusReply)
	all := root.answer(root.send(&wire.Status{})).(*wire.StatusReply)
	if mine.AuditSegment != "" || all.AuditSegment == "" {
		t.Errorf("log segment: %q, root %q", mine.AuditSegment, all.AuditSegment)
	}
	if mine.PolicyError == all.PolicyError || mine.PolicyError == "" {
		t.Errorf("policy error: %q, root %q", mine.PolicyError, all.PolicyError)
	}
	used := func(s *wire.StatusReply, name string) (l wire.Limit) {
		for _, l := range s.Limits {
			if l.Name == name {
				return l
			}
		}
		return l
	}
	if h := used(mine, "holds"); h.Used != 1 || h.UsedAll != 1 || h.PerUID != 1024 {
		t.Errorf("%+v", h)
	}
	if h := used(all, "holds"); h.Used != 0 || h.UsedAll != 1 {
		t.Errorf("%+v", h)
	}
}
