package authz

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// one is a policy with one rule for everybody on path.
func one(path string) string {
	return head + "[[rule]]\nusers = [\"*\"]\npaths = [" + quote(path) + "]\n" + tail
}

func quote(s string) string { return "'" + s + "'" }

func TestUnknownPeersAreGrantedNothing(t *testing.T) {
	p := parse(t, one("/srv/tm"))
	alone, err := Standalone([]string{"/srv/tm"}, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	unknown := map[string]*Peer{"nil": nil, "zero": {}, "made by hand": {UID: 1000, GID: 1000, PID: 1}, "root by hand": {PID: 1}}
	for name, ids := range map[string][2]uint32{
		"uid 65534": {65534, 1000}, "uid -1": {1<<32 - 1, 1000}, "gid 65534": {1000, 65534},
		"gid -1": {1000, 1<<32 - 1}, "root's gid 65534": {0, 65534}, "both": {65534, 65534},
	} {
		peer := PeerFor(ids[0], ids[1], nil)
		unknown[name] = &peer
		late := PeerFor(1000, 1000, nil) // became one after it was made
		late.UID, late.GID = ids[0], ids[1]
		unknown[name+", late"] = &late
	}
	for name, peer := range unknown {
		for _, p := range []*Policy{p, alone} {
			if d := p.Decide(peer, ActLock, "/srv/tm/x"); d != (Decision{Why: WhyUnknownPeer}) {
				t.Errorf("%s: %+v", name, d)
			}
			if peer.Known() || p.Connect(peer) || len(p.Allowances(peer)) > 0 {
				t.Errorf("%s: known %v, connect %v", name, peer.Known(), p.Connect(peer))
			}
		}
	}
}

func TestZeroValuesGrantNothing(t *testing.T) {
	var none *Policy
	alice := peerOf("alice")
	if d := none.Decide(alice, ActLock, "/srv/tm"); d != (Decision{}) {
		t.Errorf("nil policy: %+v", d)
	}
	if d := new(Policy).Decide(peerOf("root"), ActLock, "/srv/tm"); d.Allowed {
		t.Errorf("zero policy: %+v", d)
	}
	p := parse(t, one("/srv/tm"))
	for _, a := range []Action{0, 5, 8, 9, 255} {
		for _, peer := range []*Peer{alice, peerOf("root")} {
			if d := p.Decide(peer, a, "/srv/tm"); d.Allowed {
				t.Errorf("action %d, uid %d: %+v", a, peer.UID, d)
			}
		}
	}
	if (&rule{}).names(alice) || (&rule{}).covers(p, alice, "/srv/tm") {
		t.Error("the zero rule matches")
	}
}

func TestADenyAlwaysWinsAndOrderNeverMatters(t *testing.T) {
	// Tables of one kind change places, those of different kinds keep their order.
	text := richPolicies["sample"]
	parts := strings.Split(text, "\n[[")
	settings, tables := parts[0], parts[1:]
	var denies, rules []string
	for _, table := range tables {
		if strings.HasPrefix(table, "deny") {
			denies = append(denies, "\n[["+table)
		} else {
			rules = append(rules, "\n[["+table)
		}
	}
	rules = append(rules, "\n[[rule]]\nusers = [\"alice\"]\npaths = [\"/srv/tm/alice\", \"/srv/backups\"]\nmax_hold = \"13h\"\nholds = 3\n"+tail)
	first := parse(t, settings+strings.Join(denies, "")+strings.Join(rules, ""))
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		random.Shuffle(len(denies), func(i, k int) { denies[i], denies[k] = denies[k], denies[i] })
		random.Shuffle(len(rules), func(i, k int) { rules[i], rules[k] = rules[k], rules[i] })
		other := parse(t, settings+strings.Join(denies, "")+strings.Join(rules, ""))
		for _, peer := range probePeers() {
			for _, a := range everyAction {
				for _, path := range probePaths(first) {
					want, got := first.Decide(peer, a, path), other.Decide(peer, a, path)
					want.Rule, want.Line, got.Rule, got.Line = "", 0, "", 0 // of several, the first is named
					if got != want {
						t.Fatalf("uid %d %s %q: got %+v, want %+v", peer.UID, a, path, got, want)
					}
					if other.deniedBy(peer, path) != nil && got.Allowed {
						t.Fatalf("uid %d %s %q is denied and allowed", peer.UID, a, path)
					}
				}
			}
		}
	}
}

func TestRootStaysInsideTheWhitelistAndUnderTheDenies(t *testing.T) {
	p := parse(t, richPolicies["root under a deny"])
	for path, want := range map[string]Why{
		"/srv/tm": WhyDeny, "/srv/tm/x": WhyDeny, "/srv/backups/archive/x": WhyDeny,
		"/srv/backups": WhyRoot, "/srv/backups/x": WhyRoot, "/srv/tmx": WhyOutside, "/etc/shadow": WhyOutside,
	} {
		for _, a := range everyAction {
			d := p.Decide(peerOf("root"), a, path)
			if d.Why != want || d.Allowed != (want == WhyRoot) {
				t.Errorf("%s %q: got %+v, want %v", a, path, d, want)
			}
			if d.Allowed && (d.MaxHold != 0 || d.MaxWait != 0 || d.Holds != 0 || d.Quiet != 0 || d.Engines != bothEngines || d.Rule != "root") {
				t.Errorf("%s %q: root is limited: %+v", a, path, d)
			}
			// The rule for everybody lets links be locked with "lock" and "list" alone.
			if listed := a == ActLock || a == ActList; d.Allowed && d.Hardlinks != listed {
				t.Errorf("%s %q: hardlinks %v", a, path, d.Hardlinks)
			}
		}
	}
}

func TestRulesMergeFieldByFieldToTheMostGenerous(t *testing.T) {
	rule := func(fields string) string {
		return "[[rule]]\nusers = [\"alice\"]\npaths = [\"/srv/tm\"]\n" + fields + "\ncan = [\"lock\"]\n"
	}
	for _, c := range []struct {
		rules []string
		want  Decision
	}{
		{[]string{""}, Decision{Engines: bothEngines}},
		{[]string{"max_hold = \"1h\"\nmax_wait = \"2m\"\nholds = 3\nengines = [\"flock\"]"},
			Decision{MaxHold: time.Hour, MaxWait: 2 * time.Minute, Holds: 3, Engines: Flock}},
		{[]string{"max_hold = \"1h\"\nholds = 3\nengines = [\"flock\"]", "max_hold = \"30m\"\nmax_wait = \"1s\"\nholds = 9\nengines = [\"ofd\"]"},
			Decision{MaxHold: time.Hour, Holds: 9, Engines: bothEngines}},
		{[]string{"max_hold = \"1d12h\"", "max_hold = \"2d\"\nhardlinks = true"},
			Decision{MaxHold: 48 * time.Hour, Engines: bothEngines, Hardlinks: true}},
		{[]string{"quiet = \"30s\"", "quiet = \"1h\""}, Decision{Engines: bothEngines, Quiet: 30 * time.Second}},
		{[]string{"quiet = \"1s\"", ""}, Decision{Engines: bothEngines}},
		{[]string{"max_hold = \"1h\"", "holds = 4"}, Decision{Engines: bothEngines}},
	} {
		text := head
		for _, r := range c.rules {
			text += rule(r)
		}
		got := parse(t, text).Decide(peerOf("alice"), ActLock, "/srv/tm/x")
		c.want.Allowed, c.want.Why, c.want.Rule, c.want.Line = true, WhyRule, "rule 1", 2
		if got != c.want {
			t.Errorf("%q: got %+v, want %+v", c.rules, got, c.want)
		}
	}
}

func TestUsersAndGroupsBothName(t *testing.T) {
	p := parse(t, head+"[[rule]]\nusers = [\"alice\", 1001]\ngroups = [\"backup\", 50]\npaths = [\"/srv/tm\"]\n"+tail)
	primary := PeerFor(7000, 50, nil)
	late := PeerFor(7000, 7000, []uint32{9, 8, 50, 1}) // not in order
	swapped := PeerFor(34, 1000, []uint32{1001})       // ids of the other kind
	for peer, want := range map[*Peer]bool{
		peerOf("alice"): true, peerOf("bob"): true, peerOf("carol"): false, peerOf("carol", 34): true,
		peerOf("carol", 1, 2, 50, 60): true, peerOf("carol", 33, 35, 49, 51): false, &primary: true, &late: true,
		&swapped: false, peerOf("carol", 1000, 1001): false, // a group with a user's number is no user
	} {
		if d := p.Decide(peer, ActLock, "/srv/tm"); d.Allowed != want {
			t.Errorf("uid %d groups %v: got %+v, want %v", peer.UID, peer.Groups, d, want)
		}
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	p := parse(t, richPolicies["sample"])
	for _, peer := range []*Peer{peerOf("alice"), peerOf("bob", 34, 35), peerOf("root")} {
		for _, path := range []string{
			"/srv/tm/" + p.Name(peer.UID) + "/x.sparsebundle",
			fmt.Sprintf("/srv/tm/by-id/u%d.d/x", peer.UID),
		} {
			if !p.Decide(peer, ActLock, path).Allowed {
				t.Errorf("uid %d %q: not allowed", peer.UID, path)
			}
			if n := testing.AllocsPerRun(100, func() { p.Decide(peer, ActLock, path) }); n != 0 {
				t.Errorf("uid %d %q: %v allocations", peer.UID, path, n)
			}
		}
	}
}

func TestActionWordsAndParseActionAgree(t *testing.T) {
	for _, a := range everyAction {
		if got, ok := ParseAction(a.String()); !ok || got != a {
			t.Errorf("%v: %v %v", a, got, ok)
		}
	}
	for _, word := range []string{"", "none", "Lock", "lock ", "unlock", "*"} {
		if a, ok := ParseAction(word); ok || a != 0 {
			t.Errorf("%q: %v", word, a)
		}
	}
	if got := allActions.words(); !slices.Equal(got, actionWords[:]) {
		t.Errorf("all actions: %q", got)
	}
	if s := []string{Action(9).String(), Why(0).String(), Why(99).String(), WhyUnknownPeer.String(), Engines(0).String(), bothEngines.String()}; !slices.Equal(s, []string{"none", "refused", "refused", "unknown-peer", "none", "ofd flock"}) {
		t.Errorf("%q", s)
	}
}
