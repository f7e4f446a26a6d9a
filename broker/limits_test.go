package broker

import (
	"fmt"
	"os"
	"testing"

	"locker/wire"
)

// limited is a policy under which everybody may lock everything, within these limits.
func limited(settings string) func(*rig) {
	return func(r *rig) {
		r.policy = rules(r.files, `
allow = ["FILES"]
[limits]
`+settings+`
[[rule]]
name = "all"
users = ["*"]
paths = ["FILES"]
can = ["lock", "lock-shared"]
`)
	}
}

// user is one whose limits are not root's: another than this process's when that is root.
func user() uint32 {
	if os.Geteuid() == 0 {
		return alice
	}
	return uint32(os.Geteuid())
}

func (r *rig) dialUser() *peer {
	r.t.Helper()
	if os.Geteuid() == 0 {
		return r.dialAs(alice)
	}
	return r.dial()
}

func (r *rig) dialMuteUser() *peer {
	r.t.Helper()
	if os.Geteuid() == 0 {
		return r.dialMuteAs(alice)
	}
	return r.dialMute()
}

func TestHoldsAndWaitersBeyondTheLimitAreRefused(t *testing.T) {
	r := newRig(t, limited("holds = 5\nwaiters = 2"))
	p, q := r.dialUser(), r.dialUser()
	paths := make([]string, 9)
	for i := range paths {
		paths[i] = r.file(fmt.Sprint(i))
	}
	p.granted(detached(paths[0:2]...))
	p.granted(attached(paths[2]))
	if e := q.refused(attached(paths[3:6]...)); e.Code != wire.CodeQuota {
		t.Errorf("a set that is one too many: %+v", e)
	}
	for _, path := range paths[3:6] {
		if !isFree(t, path) {
			t.Errorf("%s is locked by a refused set", path)
		}
	}
	r.checkReplay()
	// What is asked for counts as well: two of the five are left.
	a := q.send(attached(paths[2]))
	q.queued(a)
	b := q.send(attached(paths[2]))
	if e := asError(t, q.answer(q.send(attached(paths[3])))); e.Code != wire.CodeQuota {
		t.Errorf("a hold beyond those that are asked for: %+v", e)
	}
	q.answer(q.send(&wire.Cancel{Target: b}))
	b = q.send(reader(attached(paths[2])))
	q.queued(b)
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: paths[:1]}))
	if e := p.refused(detached(paths[2])); e.Code != wire.CodeQuota {
		t.Errorf("a third waiter: %+v", e)
	}
	if e := p.refused(try(detached(paths[2]))); e.Code != wire.CodeBusy {
		t.Errorf("who would not wait needs no place among the waiters: %+v", e)
	}
	if os.Geteuid() == 0 {
		r.dial().granted(attached(paths[5]))
	}
}

func TestARulesLimitOfHoldsCountsClaimsThatWaitTogether(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.policy = rules(r.files, `
allow = ["FILES"]
[[rule]]
name = "two at a time"
users = ["*"]
paths = ["FILES"]
holds = 2
can = ["lock"]
`)
	})
	paths := []string{r.file("a"), r.file("b"), r.file("c"), r.file("d")}
	var locks []*os.File
	for _, path := range paths {
		locks = append(locks, outsideLock(t, path))
	}
	p, q := r.dialUser(), r.dialUser()
	ids := map[*peer][]uint32{}
	for i, path := range paths {
		who := []*peer{p, q}[i%2]
		id := who.send(attached(path))
		if i < 2 {
			who.queued(id)
			ids[who] = append(ids[who], id)
		} else if e := asError(t, who.answer(id)); e.Code != wire.CodeQuota {
			t.Errorf("claim %d: %+v", i, e)
		}
	}
	q.answer(q.send(&wire.Cancel{Target: ids[q][0]})) // one place is free again
	eventually(t, "the place is free", func() bool { return !r.requestOf(q, ids[q][0], func(*request) {}) })
	id := q.send(attached(paths[2]))
	q.queued(id)
	for _, f := range locks {
		f.Close()
	}
	grants(t, p.answer(ids[p][0]))
	grants(t, q.answer(id))
	if e := p.refused(attached(paths[3])); e.Code != wire.CodeQuota {
		t.Errorf("a third hold: %+v", e)
	}
	p.conn.Close()
	q.answer(q.send(&wire.Unlock{By: wire.ByPath, Paths: paths[2:3]}))
	q.granted(attached(paths[3]))
	eventually(t, "one hold is left in the rule's count", func() bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return r.b.perRule[ruleUse{user(), "two at a time"}] == 1
	})
	q.conn.Close()
	eventually(t, "nothing is left in the rule's count", func() bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return len(r.b.perRule) == 0
	})
}

func TestARequestThatFindsNoSlotIsToldToTryAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, asLockerd)
	path := r.file("a")
	p := r.dial()
	p.granted(attached(path))
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}}))
	again := r.noOpens()
	if e := p.refused(attached(path)); e.Code != wire.CodeUnavailable {
		t.Errorf("%+v", e)
	}
	again()
	p.granted(attached(path))
	r.b.mu.Lock()
	a := r.b.accounts[uint32(os.Geteuid())]
	r.b.mu.Unlock()
	if a.lists.limit != listsUID {
		t.Errorf("%d lists at once", a.lists.limit)
	}
	a.lists.set(0)
	if e := p.refused(&wire.List{}); e.Code != wire.CodeUnavailable {
		t.Errorf("%+v", e)
	}
	a.lists.set(listsUID)
	if n := len(p.rowsOf(p.send(&wire.List{}))); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestASetMayHave64Paths(t *testing.T) {
	r := newRig(t, nil)
	paths := make([]string, wire.MaxPaths)
	for i := range paths {
		paths[i] = r.file(fmt.Sprint(len(paths) - i))
	}
	p := r.dial()
	g := p.granted(attached(paths...))
	seen := map[uint64]bool{}
	for i, one := range g {
		row := r.holdOf(one.ID)
		if seen[one.ID] || row != paths[i] {
			t.Errorf("grant %d is %d, of %s and not %s", i, one.ID, row, paths[i])
		}
		seen[one.ID] = true
	}
	r.checkReplay()
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: paths})).(*wire.Released); len(rel.IDs) != len(paths) || rel.IDs[63] != g[63].ID {
		t.Errorf("%+v", rel)
	}
	r.checkReplay()
}

// holdOf gives the path of a hold.
func (r *rig) holdOf(id uint64) string {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	if h := r.b.table.byID(id); h != nil {
		return h.info.path
	}
	return ""
}
