package authz

import (
	"maps"
	"slices"
	"testing"
	"time"
)

var everyAction = []Action{ActLock, ActLockShared, ActList, ActBreak}

// probePeers are the peers that laws are tried with.
func probePeers() []*Peer {
	peers := []*Peer{{}, peerOf("root"), peerOf("root", 34), peerOf("bob", 4), peerOf("carol", 34), peerOf("carol", 50), peerOf("dave-admin", 4, 50)}
	for _, name := range slices.Sorted(maps.Keys(testUsers().users)) {
		peers = append(peers, peerOf(name))
	}
	stranger := PeerFor(7777, 34, nil)
	return append(peers, &stranger)
}

// probePaths are paths in and around what the policy names.
func probePaths(p *Policy) []string {
	seen := map[string]bool{"/etc/passwd": true, "/": true, "": true, "/srv": true}
	add := func(path string) {
		for _, suffix := range []string{"", "/x", "x"} {
			seen[path+suffix] = true
		}
	}
	for _, root := range p.Allow {
		add(root)
	}
	for _, r := range slices.Concat(p.rules, p.denies) {
		for i := range r.paths {
			for _, uid := range []uint32{0, 1000, 1001, 2012} {
				if path, ok := r.paths[i].expand(p, uid); ok {
					add(path)
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// noMore reports whether part grants nothing that whole does not.
func noMore(part, whole Decision) bool {
	if !part.Allowed {
		return true
	}
	within := func(part, whole int64) bool { return whole == 0 || part != 0 && part <= whole }
	return whole.Allowed &&
		within(int64(part.MaxHold), int64(whole.MaxHold)) &&
		within(int64(part.MaxWait), int64(whole.MaxWait)) &&
		within(int64(part.Holds), int64(whole.Holds)) &&
		part.Engines&^whole.Engines == 0 &&
		part.Quiet >= whole.Quiet &&
		(!part.Hardlinks || whole.Hardlinks)
}

// holdsPrefixLaw tries every prefix of the text of whole and returns how many of
// them are policies.
func holdsPrefixLaw(t *testing.T, text string, whole *Policy, peers []*Peer) (valid int) {
	t.Helper()
	paths := probePaths(whole)
	type question struct {
		peer *Peer
		a    Action
		path string
	}
	answers := map[question]Decision{}
	for _, peer := range peers {
		for _, a := range everyAction {
			for _, path := range paths {
				answers[question{peer, a, path}] = whole.Decide(peer, a, path)
			}
		}
	}
	for n := range len(text) {
		part, err := Parse("p.toml", []byte(text[:n]), testUsers())
		if err != nil {
			continue
		}
		valid++
		if len(part.rules) > 0 && !slices.Equal(part.Allow, whole.Allow) {
			t.Fatalf("prefix of %d bytes: allow %q, whole %q\n%s", n, part.Allow, whole.Allow, text)
		}
		// Whom the guard keeps out is nobody's right, but a hold is worth less without: a file that lets anybody lock has it all.
		if len(part.rules) > 0 && !slices.Equal(part.Guard, whole.Guard) {
			t.Fatalf("prefix of %d bytes: guard %q, whole %q\n%s", n, part.Guard, whole.Guard, text)
		}
		for q, want := range answers {
			if got := part.Decide(q.peer, q.a, q.path); !noMore(got, want) {
				t.Fatalf("prefix of %d bytes grants more: uid %d %s %q\n got %+v\nwant %+v\n%s",
					n, q.peer.UID, q.a, q.path, got, want, text)
			}
		}
	}
	return valid
}

func TestAnyPrefixOfAPolicyGrantsNoMoreThanTheWhole(t *testing.T) {
	for name, text := range richPolicies {
		t.Run(name, func(t *testing.T) {
			whole := parse(t, text)
			valid := holdsPrefixLaw(t, text, whole, probePeers())
			if valid < 2 {
				t.Errorf("only %d prefixes are policies: the law was hardly tried", valid)
			}
			t.Logf("%d of %d prefixes are policies", valid, len(text))
		})
	}
}

func TestAPolicyWithoutRulesGrantsNobodyAnything(t *testing.T) {
	for _, name := range []string{"no rule", "deny alone"} {
		p := parse(t, richPolicies[name])
		for _, peer := range probePeers() {
			for _, a := range everyAction {
				for _, path := range probePaths(p) {
					if d := p.Decide(peer, a, path); d.Allowed {
						t.Errorf("%s: uid %d %s %q: %+v", name, peer.UID, a, path, d)
					}
				}
			}
			if got := p.Allowances(peer); len(got) > 0 {
				t.Errorf("%s: uid %d: allowances %+v", name, peer.UID, got)
			}
		}
	}
}

func TestNoMoreNoticesEachField(t *testing.T) {
	whole := Decision{Allowed: true, MaxHold: time.Hour, MaxWait: time.Hour, Holds: 4, Engines: OFD, Quiet: time.Minute}
	for _, more := range []Decision{
		{Allowed: true, MaxHold: 2 * time.Hour, MaxWait: time.Hour, Holds: 4, Engines: OFD, Quiet: time.Minute},
		{Allowed: true, MaxWait: time.Hour, Holds: 4, Engines: OFD, Quiet: time.Minute},
		{Allowed: true, MaxHold: time.Hour, Holds: 4, Engines: OFD, Quiet: time.Minute},
		{Allowed: true, MaxHold: time.Hour, MaxWait: time.Hour, Engines: OFD, Quiet: time.Minute},
		{Allowed: true, MaxHold: time.Hour, MaxWait: time.Hour, Holds: 4, Engines: Flock, Quiet: time.Minute},
		{Allowed: true, MaxHold: time.Hour, MaxWait: time.Hour, Holds: 4, Hardlinks: true, Quiet: time.Minute},
		{Allowed: true, MaxHold: time.Hour, MaxWait: time.Hour, Holds: 4, Engines: OFD, Quiet: time.Second},
		{Allowed: true, MaxHold: time.Hour, MaxWait: time.Hour, Holds: 4, Engines: OFD},
	} {
		if noMore(more, whole) {
			t.Errorf("%+v is more than %+v", more, whole)
		}
	}
	if noMore(whole, Decision{}) || !noMore(whole, whole) || !noMore(Decision{}, whole) {
		t.Error("noMore is wrong about the ends")
	}
}
