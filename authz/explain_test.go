package authz

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestExplainNamesWhatDecidesAndWhyOthersLose(t *testing.T) {
	p := parse(t, richPolicies["sample"])
	for _, c := range []struct {
		peer   *Peer
		a      Action
		path   string
		by     string
		others []string
	}{
		{peerOf("alice"), ActLock, "/srv/tm/alice/x", `rule "own bundles" (p.toml:30); a sparsebundle after 30s of quiet`, []string{
			`deny "archive is read-only" (p.toml:21): path: none of its paths is this one or above it`,
			`deny 2 (p.toml:26): subject: it names neither this user nor one of the groups`,
			`rule "everybody may look" (p.toml:42): action: its can does not hold "lock"`,
			`rule "admins" (p.toml:48): subject: it names neither this user nor one of the groups`,
		}},
		{peerOf("alice", 4), ActLock, "/srv/tm/alice/x", `rule "own bundles" (p.toml:30)`, []string{
			`deny "archive is read-only" (p.toml:21): path: none of its paths is this one or above it`,
			`deny 2 (p.toml:26): subject: it names neither this user nor one of the groups`,
			`rule "everybody may look" (p.toml:42): action: its can does not hold "lock"`,
			`rule "admins" (p.toml:48): it allows as well: of each limit the most generous is taken`,
		}},
		{peerOf("bob", 4), ActLock, "/srv/tm/archive/x", `deny "archive is read-only" (p.toml:21)`, []string{
			`deny 2 (p.toml:26): subject: it names neither this user nor one of the groups`,
			`rule "own bundles" (p.toml:30): path: none of its paths is this one or above it`,
			`rule "everybody may look" (p.toml:42): action: its can does not hold "lock"`,
			`rule "admins" (p.toml:48): deny: it would allow, but a deny always wins`,
		}},
		{peerOf("root"), ActBreak, "/srv/backups/x", "root needs no rule", []string{
			`deny "archive is read-only" (p.toml:21): path: none of its paths is this one or above it`,
			`deny 2 (p.toml:26): subject: it names neither this user nor one of the groups`,
			`rule "own bundles" (p.toml:30): subject: it names neither this user nor one of the groups`,
			`rule "everybody may look" (p.toml:42): path: none of its paths is this one or above it`,
			`rule "admins" (p.toml:48): subject: it names neither this user nor one of the groups`,
		}},
		{peerOf("carol"), ActLock, "/srv/tm/carol", "no rule allows lock here", []string{
			`deny "archive is read-only" (p.toml:21): path: none of its paths is this one or above it`,
			`deny 2 (p.toml:26): subject: it names neither this user nor one of the groups`,
			`rule "own bundles" (p.toml:30): subject: it names neither this user nor one of the groups`,
			`rule "everybody may look" (p.toml:42): action: its can does not hold "lock"`,
			`rule "admins" (p.toml:48): subject: it names neither this user nor one of the groups`,
		}},
		{&Peer{}, ActLock, "/srv/tm/x", "the peer is unknown, or has an id that stands for nobody in particular", nil},
		{peerOf("alice"), 0, "/srv/tm/x", "refused", nil},
	} {
		got := p.Explain(c.peer, c.a, c.path)
		if got.By != c.by || !slices.Equal(got.Others, c.others) || got.Decision != p.Decide(c.peer, c.a, c.path) {
			t.Errorf("uid %d %s %q:\n%+v\n%s\nwant %s\n%s", c.peer.UID, c.a, c.path, got.Decision,
				got.By+"\n"+strings.Join(got.Others, "\n"), c.by, strings.Join(c.others, "\n"))
		}
	}
	for path, by := range map[string]string{"/etc": "the path lies outside allow", "/srv/tm/../x": `path holds a ".." component`, "": "path is empty"} {
		if got := p.Explain(peerOf("alice"), ActLock, path); got.By != by || len(got.Others) != 5 {
			t.Errorf("%q: %+v", path, got)
		}
	}
	if got := parse(t, head).Explain(peerOf("root"), ActLock, "/srv/tm").By; !strings.Contains(got, "no rule, which leaves nobody any right") {
		t.Error(got)
	}
	alone, _ := Standalone([]string{"/srv/tm"}, 1000, nil)
	for user, want := range map[string]string{"alice": "lockerd runs as this user", "bob": "without a policy file only root"} {
		if got := alone.Explain(peerOf(user), ActLock, "/srv/tm").By; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", user, got)
		}
	}
	if got := (*Policy)(nil).Explain(peerOf("root"), ActLock, "/srv/tm"); got.Decision.Allowed || got.By != "refused" {
		t.Errorf("%+v", got)
	}
}

func TestExplanationFitsIntoAFrame(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	for i := range maxRules {
		fmt.Fprintf(&b, "[[rule]]\nname = \"%d%s\"\nusers = [7]\npaths = [\"/srv/tm\"]\n%s", i, strings.Repeat("n", 120), tail)
	}
	p, err := Parse("/"+strings.Repeat("long/", 800)+"p.toml", []byte(b.String()), testUsers())
	if err != nil {
		t.Fatal(err)
	}
	got := p.Explain(peerOf("alice"), ActLock, "/srv/tm/x")
	size := len(got.By)
	for _, line := range got.Others {
		size += len(line)
		if len(line) > 1024 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if size > 60<<10 || len(got.Others) > maxOthers || len(got.Others) < 20 {
		t.Errorf("%d lines, %d bytes", len(got.Others), size)
	}
	if !strings.Contains(got.Others[0], "/p.toml:") && !strings.Contains(got.Others[0], "(p.toml:") {
		t.Error(got.Others[0])
	}
}

func TestAllowancesShowWhatAPeerMayLock(t *testing.T) {
	p := parse(t, richPolicies["sample"])
	look := Allowance{Paths: []string{"/srv/tm"}, Can: []string{"list"}, Engines: bothEngines}
	all := []string{"lock", "lock-shared", "list", "break"}
	own := func(name string, uid int) Allowance {
		return Allowance{
			Paths: []string{"/srv/tm/" + name, fmt.Sprintf("/srv/tm/by-id/u%d.d", uid)}, Can: []string{"lock", "lock-shared"},
			MaxHold: 12 * time.Hour, MaxWait: time.Hour, Holds: 80, Engines: Flock, Quiet: 30 * time.Second,
		}
	}
	noName := own("", 2006)
	noName.Paths = noName.Paths[1:]
	for _, c := range []struct {
		peer *Peer
		want []Allowance
	}{
		{peerOf("alice"), []Allowance{own("alice", 1000), look}},
		{peerOf("carol"), []Allowance{look}},
		{peerOf("carol", 34), []Allowance{own("carol", 1002), look}},
		{peerOf("../bob", 34), []Allowance{noName, look}},
		{peerOf("carol", 4), []Allowance{look, {Paths: []string{"/srv/backups", "/srv/tm"}, Can: all, Engines: bothEngines}}},
		{peerOf("root"), []Allowance{{Paths: []string{"/srv/tm", "/srv/backups"}, Can: all, Engines: bothEngines}}},
		{&Peer{}, nil},
	} {
		if got := p.Allowances(c.peer); !reflect.DeepEqual(got, c.want) {
			t.Errorf("uid %d:\n got %+v\nwant %+v", c.peer.UID, got, c.want)
		}
	}
	// What is denied as a whole is not promised, and what lies outside is cut off.
	p = parse(t, `allow = ["/srv/tm/alice/a", "/srv/tm/alice/b", "/srv/tm/bob"]
[[deny]]
users = ["alice"]
paths = ["/srv/tm/alice/b"]
[[rule]]
users = ["*"]
paths = ["/srv/tm/{user}"]
can = ["lock"]`)
	for user, want := range map[string][]string{"alice": {"/srv/tm/alice/a"}, "bob": {"/srv/tm/bob"}, "carol": nil} {
		var got []string
		for _, a := range p.Allowances(peerOf(user)) {
			got = append(got, a.Paths...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", user, got, want)
		}
	}
}

func TestEveryAllowedPathIsAllowed(t *testing.T) {
	for name, text := range richPolicies {
		p := parse(t, text)
		for _, peer := range probePeers() {
			for _, allowance := range p.Allowances(peer) {
				if n := len(allowance.Paths); n == 0 || n > maxPaths {
					t.Errorf("%s: %d paths", name, n)
				}
				for _, path := range allowance.Paths {
					for _, word := range allowance.Can {
						a, _ := ParseAction(word)
						if d := p.Decide(peer, a, path); !d.Allowed {
							t.Errorf("%s: uid %d %s %q is promised and refused: %+v", name, peer.UID, a, path, d)
						}
					}
				}
			}
		}
	}
}

func TestDiffSaysWhatAReloadChanges(t *testing.T) {
	before := richPolicies["sample"]
	old := parse(t, before)
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"", "", nil},
		{"# the whitelist", "# another comment", nil},
		{`"/srv/tm", "/srv/backups"]      #`, `"/srv/backups", "/srv/tm"]      #`, nil},
		{`"/srv/backups"]      #`, `"/srv/backups", "/srv/new"]      #`, []string{`allow: "/srv/new" added`}},
		{`max_hold = "12h"`, `max_hold = "1d"`, []string{`rule "own bundles" changed: max_hold 12h0m0s → 24h0m0s`}},
		{"holds = 80\n", "", []string{`rule "own bundles" changed: holds 80 → none`}},
		{`users  = ["alice", 1001] `, `users  = ["alice", "bob", 1002] `, []string{`rule "own bundles" changed: users`}},
		{`users  = ["alice", 1001] `, `users  = [1001, 1000] `, nil},
		{`engines = ["flock"]`, `hardlinks = true`, []string{`rule "own bundles" changed: engines flock → ofd flock, hardlinks false → true`}},
		{`quiet = "30s"`, `quiet = "1m"`, []string{`rule "own bundles" changed: quiet 30s → 1m0s`}},
		{"quiet = \"30s\"\n", "", []string{`rule "own bundles" changed: quiet 30s → none`}},
		{`can    = ["list"]`, `can    = ["break", "list"]`, []string{`rule "everybody may look" changed: can list → list break`}},
		{`"everybody may look"`, `"all may look"`, []string{`rule "all may look" added`, `rule "everybody may look" removed`}},
		{`groups = ["staff"]`, `groups = ["adm"]`, []string{
			`deny for ["/srv/backups/{user}/private" "/srv/tm/alice/no"] added`,
			`deny for ["/srv/backups/{user}/private" "/srv/tm/alice/no"] removed`}},
		{`"/srv/tm/archive"`, `"/srv/tm/old"`, []string{`deny "archive is read-only" changed: paths`}},
		{`socket = "/run/locker.sock"`, `socket = "/run/l/s"`, []string{`socket: /run/locker.sock → /run/l/s (not before lockerd is stopped and started)`}},
		// Whether these took a restart, whoever takes them up says.
		{"socket_mode = \"0660\"\nsocket_group = \"backup\"", "socket_mode = \"0600\"", []string{"socket_mode: 0660 → 0600", "socket_group: 34 → none"}},
		{`"64MiB"`, `"1GiB"`, []string{"segment_size: 64MiB → 1GiB"}},
		{"/var/lib/locker", "/var/lib/locker2", []string{"state_dir: /var/lib/locker → /var/lib/locker2 (not before lockerd is stopped and started)"}},
		{`"/usr/sbin/smbd", "/usr`, `"/usr`, []string{`guard: "/usr/sbin/smbd" removed`}},
		{`"/usr/sbin/smbd", "/usr/sbin/afpd"`, `"/usr/sbin/afpd", "/opt/smbd", "/usr/sbin/smbd"`, []string{`guard: "/opt/smbd" added`}},
		{"holds = 10\nunsent = \"128KiB\"", "", []string{"limit holds: 10 → 1024", "limit unsent: 128KiB → 1MiB"}},
	} {
		after := strings.Replace(before, c.from, c.to, 1)
		if c.from != c.to && after == before {
			t.Fatalf("%q is not in the sample", c.from)
		}
		if got := parse(t, after).Diff(old); !slices.Equal(got, c.want) {
			t.Errorf("%q → %q:\n got %q\nwant %q", c.from, c.to, got, c.want)
		}
	}
	got := old.Diff(nil)
	if len(got) != 2+2+2+3 || got[0] != `allow: "/srv/tm" added` || got[8] != `rule "admins" added` {
		t.Errorf("%q", got)
	}
	alone, _ := Standalone([]string{"/srv/tm", "/srv/backups"}, 0, nil)
	if got := old.Diff(alone); !slices.Contains(got, `policy file: "" → "p.toml"`) {
		t.Errorf("%q", got)
	}
}

// Two policies differ in what they decide only if Diff has something to say.
func TestDiffMissesNoChangedDecision(t *testing.T) {
	text := richPolicies["sample"]
	old := parse(t, text)
	random := rand.New(rand.NewPCG(3, 4))
	words := []string{"alice", "backup", "/srv/tm", "1001", "lock", "8", "12h", "list", "archive", "flock", "true", "{user}", "{uid}", "staff", "4"}
	changed := 0
	for range 1000 {
		from, to := words[random.IntN(len(words))], words[random.IntN(len(words))]
		at := random.IntN(len(text))
		i := strings.Index(text[at:], from)
		if i < 0 {
			continue
		}
		after, err := Parse("p.toml", []byte(text[:at+i]+to+text[at+i+len(from):]), testUsers())
		if err != nil {
			continue
		}
		same := true
		for _, peer := range []*Peer{peerOf("alice"), peerOf("bob"), peerOf("carol", 34), peerOf("carol", 4), peerOf("carol", 50), peerOf("root")} {
			for _, path := range probePaths(old) {
				for _, a := range everyAction {
					was, is := old.Decide(peer, a, path), after.Decide(peer, a, path)
					was.Line, is.Line = 0, 0
					same = same && was == is
				}
			}
		}
		if !same {
			changed++
			if len(after.Diff(old)) == 0 {
				t.Fatalf("%q → %q at %d changes decisions and Diff is silent", from, to, at+i)
			}
		}
	}
	if changed < 20 {
		t.Errorf("only %d changes tried", changed)
	}
}
