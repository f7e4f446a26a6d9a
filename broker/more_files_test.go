package broker

import (
	"os"
	"slices"
	"testing"

	"locker/wire"
)

// dialUser2 connects as user(), as a client that knows how to come back.
func (r *rig) dialUser2() *peer {
	r.t.Helper()
	p := r.dialMuteUser()
	p.session = p.answer(p.send(&wire.Hello{Min: 2, Max: 2})).(*wire.Welcome).Session
	return p
}

// againUser is resumed for a peer of dialUser2.
func (p *peer) againUser(r *rig) {
	r.t.Helper()
	fresh := r.dialUser2()
	p.conn, p.kept = fresh.conn, nil
	if m, ok := p.answer(p.send(&wire.Resume{Session: p.session})).(*wire.Resumed); !ok {
		r.t.Fatalf("%+v", m)
	}
}

// A place is in already, for the files that it was asked for. A Lock that only has its number is another one.
func TestAPlaceIsOfNoUseForOtherFiles(t *testing.T) {
	for what, limit := range map[string]func(*rig){
		"a uid's": limited("holds = 4"),
		"a rule's": func(r *rig) {
			r.policy = rules(r.files, "allow = [\"FILES\"]\n[[rule]]\nname = \"four\"\nusers = [\"*\"]\npaths = [\"FILES\"]\nholds = 4\ncan = [\"lock\"]\n")
		},
	} {
		for _, first := range []bool{true, false} { // of all files, in (dev, ino) order
			r, s := withKeeper(t, limit)
			var paths []string
			for i := range 40 {
				paths = append(paths, r.file(uintText(uint64(i))))
			}
			a := paths[len(paths)-1]
			if first {
				a = paths[0]
			}
			p, q := r.dialUser2(), r.dialUser2()
			p.granted(attached(a))
			id := q.send(attached(a))
			q.queued(id)
			s.crash()
			s.back()
			p.againUser(r)
			q.againUser(r)
			q.repeat(id, attached(paths...))
			if e := asError(t, q.answer(id)); e.Code != wire.CodeQuota {
				t.Errorf("%s: %+v", what, e)
			}
			r.checkReplay()
			r.halt()
		}
	}
}

func TestAPlaceOfOneFileIsNoneOfAnother(t *testing.T) {
	needRoot(t, "two users")
	for _, more := range []bool{false, true} {
		r, s := withKeeper(t, limited("holds = 100"))
		a, b := r.file("a"), r.file("b")
		p, q, rival := r.dial2(), r.dial2(), r.dialUser2()
		p.granted(attached(a, b))
		id := q.send(attached(a)) // early, but not for b
		q.queued(id)
		n := rival.send(attached(b))
		rival.queued(n)
		s.crash()
		s.back()
		p.resumed(r)
		q.resumed(r)
		rival.againUser(r)
		rival.repeat(n, attached(b))
		rival.queued(n)
		ask := attached(b)
		if more {
			ask = attached(a, b)
		}
		q.repeat(id, ask)
		if got := q.queued(id); got.Position != 2 {
			t.Errorf("more %v: place %d", more, got.Position)
		}
		r.halt()
	}
}

// The same when the files are replaced under a claim: what its owner holds already costs nothing, and what comes in its stead does.
func TestAClaimThatFollowsItsNamesAsksForQuota(t *testing.T) {
	r := newRig(t, limited("holds = 4"))
	a, b, c, x := r.file("a"), r.file("b"), r.file("c"), r.file("x")
	holder, p := r.dialUser(), r.dialUser()
	outside := outsideLock(t, x)
	p.granted(attached(a, b, c))
	id := p.send(attached(a, b, c, x)) // one more, which is the last
	p.queued(id)
	for _, name := range []string{"a", "b", "c"} {
		must(t, os.Rename(r.file("new "+name), r.files+"/"+name))
	}
	outside.Close()
	if e := asError(t, p.answer(id)); e.Code != wire.CodeQuota || !slices.Contains([]string{a, b, c, x, ""}, e.Path) {
		t.Errorf("%+v", e)
	}
	if e := holder.refused(attached(r.file("y"), x)); e.Code != wire.CodeQuota {
		t.Errorf("%+v", e)
	}
	holder.granted(attached(x))
	r.checkReplay()
}
