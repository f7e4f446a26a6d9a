package broker

import (
	"os"
	"slices"
	"testing"

	"locker/wire"
)

func TestOneFileUnderTwoNamesIsOneLock(t *testing.T) {
	r := newRig(t, withHardlinks)
	one, two := r.file("one"), r.files+"/two"
	must(t, os.Link(one, two))
	bundle := r.bundle("a.sparsebundle", "token", "bands/")
	token := bundle + "/token"
	p, q := r.dial(), r.dial()
	for _, names := range [][2]string{{one, two}, {bundle, token}} {
		g := p.granted(attached(names[1], names[0], names[1]))
		if len(g) != 3 || g[0] != g[1] || g[1] != g[2] || g[0].Already {
			t.Errorf("%q: %+v", names, g)
		}
		again := p.granted(attached(names[0]))
		if !again[0].Already || again[0].ID != g[0].ID {
			t.Errorf("%q: %+v", names, again)
		}
		if e := q.refused(try(attached(names[0]))); e.Code != wire.CodeBusy {
			t.Errorf("%q: %+v", names, e)
		}
		r.checkReplay()
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		q.granted(attached(names[0]))
		q.answer(q.send(&wire.Unlock{By: wire.ByPath, Paths: names[:1]}))
	}
}

func TestUnlockAndBreakOfPathsThatCannotBeLockedSaySo(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	p := r.dial()
	g := p.granted(attached(path))
	for _, bad := range []string{"a", "./a", r.files + "/../files/a", r.files + "//a", path + "/", path + "\x00", "/"} {
		if e := p.refused(&wire.Unlock{By: wire.ByPath, Paths: []string{path, bad}}); e.Code != wire.CodeInvalid || e.Path != bad {
			t.Errorf("unlock %q: %+v", bad, e)
		}
		if e := p.refused(&wire.Break{By: wire.ByPath, Path: bad, Reason: "x"}); e.Code != wire.CodeInvalid || e.Path != bad {
			t.Errorf("break %q: %+v", bad, e)
		}
	}
	if isFree(t, path) {
		t.Error("unlocked all the same")
	}
	// A name that holds nothing is no error.
	rel := p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path + "2", path}})).(*wire.Released)
	if len(rel.IDs) != 2 || rel.IDs[0] != 0 || rel.IDs[1] != g[0].ID {
		t.Errorf("%+v", rel)
	}
}

func TestAPathNamedTwiceIsReleasedOnce(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.policy = rules(r.files, "allow = [\"FILES\"]\n[[rule]]\nname = \"two\"\nusers = [\"*\"]\npaths = [\"FILES\"]\nholds = 2\ncan = [\"lock\"]\n")
	})
	a, b, c := r.file("a"), r.file("b"), r.file("c")
	p := r.dialUser()
	g := p.granted(attached(a, b))
	rel := p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{a, a, a}})).(*wire.Released)
	if len(rel.IDs) != 3 || rel.IDs[0] != g[0].ID || rel.IDs[2] != g[0].ID {
		t.Errorf("%+v", rel)
	}
	p.granted(attached(c))
	if e := p.refused(attached(a)); e.Code != wire.CodeQuota { // else one release has counted three times
		t.Errorf("%+v", e)
	}
	r.checkReplay()
}

func TestASetWhoseOwnerGivesUpAPartMeanwhileIsLockedWhole(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.file("a"), r.file("b")
	f := outsideLock(t, b)
	p, q := r.dial(), r.dial()
	first := p.granted(detached(a))
	id := p.send(detached(a, b))
	p.queued(id)
	q.answer(q.send(&wire.Unlock{By: wire.ByPath, Paths: []string{a}}))
	f.Close()
	g := grants(t, p.answer(id))
	if g[0].Already || g[0].ID == first[0].ID || isFree(t, a) || isFree(t, b) {
		t.Errorf("%+v after %+v", g, first)
	}
	r.checkReplay()
}

func TestAnAttachedHoldIsItsConnectionsAloneAndADetachedOneItsUsersAndTags(t *testing.T) {
	r := newRig(t, nil)
	a, b, c := r.file("a"), r.file("b"), r.file("c")
	p, q := r.dial(), r.dial() // of one user
	tagged := detached(c)
	tagged.Tag = "x"
	at, de, ta := p.granted(attached(a))[0].ID, p.granted(detached(b))[0].ID, p.granted(tagged)[0].ID
	for _, c := range []struct {
		ask  *wire.Unlock
		want []uint64
	}{
		{&wire.Unlock{By: wire.ByID, ID: at}, nil},
		{&wire.Unlock{By: wire.ByPath, Paths: []string{a}}, []uint64{0}},
		{&wire.Unlock{By: wire.ByPath, Paths: []string{a, c}}, []uint64{0, 0}},
		{&wire.Unlock{By: wire.ByPath, Tag: "y", Paths: []string{b, c}}, []uint64{0, 0}},
		{&wire.Unlock{By: wire.ByAll, Tag: "y"}, nil},
		{&wire.Unlock{By: wire.ByAll}, []uint64{de}},
		{&wire.Unlock{By: wire.ByPath, AnyTag: true, Paths: []string{a, b, c}}, []uint64{0, 0, ta}},
		{&wire.Unlock{By: wire.ByAll, AnyTag: true}, nil},
	} {
		rel, ok := q.answer(q.send(c.ask)).(*wire.Released)
		if !ok || !slices.Equal(rel.IDs, c.want) {
			t.Errorf("%+v: %+v, want %v", c.ask, rel, c.want)
		}
	}
	if isFree(t, a) || !isFree(t, b) || !isFree(t, c) {
		t.Error("the kernel knows otherwise")
	}
	r.checkReplay()
}
