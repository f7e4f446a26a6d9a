package authz

import (
	"fmt"
	"maps"
	"os"
	"testing"
)

// fakeUsers is a user database. The names above 2000 are what a hostile or broken
// database may hold.
type fakeUsers struct{ users, groups map[string]uint32 }

func testUsers() fakeUsers {
	return fakeUsers{
		users: map[string]uint32{
			"root": 0, "alice": 1000, "bob": 1001, "carol": 1002, "dave-admin": 1003, "42": 1042,
			"a/b": 2001, "..": 2002, ".": 2003, "a\nb": 2004, "": 2005, "../bob": 2006,
			"tab\there": 2007, "{uid}": 2008, "*": 2009, "alice/../bob": 2010, "del\x7f": 2011,
			"caf\u00e9": 2012, "\xff\xfe": 2013, "a b": 2014, "...": 2015, "/": 2016,
			"nobody": 65534,
		},
		groups: map[string]uint32{"backup": 34, "staff": 50, "adm": 4, "nogroup": 65534},
	}
}

func (u fakeUsers) UID(name string) (uint32, error) { return lookup(u.users, name) }
func (u fakeUsers) GID(name string) (uint32, error) { return lookup(u.groups, name) }

func lookup(m map[string]uint32, name string) (uint32, error) {
	if id, ok := m[name]; ok {
		return id, nil
	}
	return 0, fmt.Errorf("%q: %w", name, ErrUnknownName)
}

func (u fakeUsers) Names() (map[uint32]string, error) {
	names := map[uint32]string{}
	for name, id := range u.users {
		names[id] = name
	}
	return names, nil
}

func (u fakeUsers) GroupNames() ([]string, error) {
	var names []string
	for name := range maps.Keys(u.groups) {
		names = append(names, name)
	}
	return names, nil
}

// peerOf returns user's peer with the given groups and the user's id as its gid.
func peerOf(user string, groups ...uint32) *Peer {
	uid := testUsers().users[user]
	p := PeerFor(uid, uid, groups)
	return &p
}

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("p.toml", []byte(text), testUsers())
	if err != nil {
		t.Fatalf("policy is refused: %v\n%s", err, text)
	}
	return p
}

// needRoot skips a test that needs root's rights, unless everything must run.
func needRoot(t *testing.T, why string) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("LOCKER_TEST_ALL") != "":
		t.Fatal("needs root: " + why)
	default:
		t.Skip("needs root: " + why)
	}
}

const (
	head = `allow = ["/srv/tm", "/srv/backups"]` + "\n" // one line
	tail = `can = ["lock"]` + "\n"
)

// richPolicies are policies that use everything the format has.
var richPolicies = map[string]string{
	"sample": `# root-owned, writable by root alone
allow = ["/srv/tm", "/srv/backups"]      # the whitelist

[server]
socket = "/run/locker.sock"
socket_mode = "0660"
socket_group = "backup"
state_dir = "/var/lib/locker"

[audit]
segment_size = "64MiB"

[limits]                     # per uid
connections = 64
holds = 10
unsent = "128KiB"

[guard]                      # of held bundles
deny = ["/usr/sbin/smbd", "/usr/sbin/afpd"]

[[deny]]
name  = "archive is read-only"
users = ["*"]
paths = ["/srv/tm/archive"]

[[deny]]
groups = ["staff"]
paths = ["/srv/backups/{user}/private", "/srv/tm/alice/no"]

[[rule]]
name   = "own bundles"
users  = ["alice", 1001]     # names or uids
groups = ["backup"]          # names or gids
paths  = ["/srv/tm/{user}", "/srv/tm/by-id/u{uid}.d"]
max_hold = "12h"
max_wait = "1h"
holds = 80
engines = ["flock"]
quiet = "30s"
can    = ["lock", "lock-shared"]

[[rule]]
name   = "everybody may look"
users  = ["*"]
paths  = ["/srv/tm"]
can    = ["list"] # the rest is for others

[[rule]]
name = "admins"
groups = [4]
paths = ["/srv/backups", '/srv/tm']
hardlinks = true
can = [
  "lock",        # one
  "lock-shared", # per
  "list",        # line
  "break",
]
`,
	"generous later": `allow = ["/srv/tm"]
[[rule]]
users = ["alice"]
paths = ["/srv/tm/alice"]
max_hold = "1h"
max_wait = "10m"
holds = 1
engines = ["ofd"]
quiet = "1h"
can = ["lock"]
[[rule]]
users = ["alice"]
paths = ["/srv/tm/alice"]
max_hold = "3h"
engines = ["flock"]
hardlinks = true
quiet = "2m"
can = ["lock", "break"]
[[rule]]
users = ["*"]
paths = ["/srv/tm"]
can = ["lock"]
`,
	"root under a deny": `allow = ["/srv/tm", "/srv/backups"]
[[deny]]
users = [0]
paths = ["/srv/tm"]
[[deny]]
users = ["*"]
paths = ["/srv/backups/archive"]
[[rule]]
users = ["*"]
paths = ["/srv/tm", "/srv/backups"]
hardlinks = true
quiet = "1s"
can = ["lock", "list"]`,
	"carriage returns": "allow = [\"/srv/tm\"]\r\n\r\n[limits]\r\nholds = 1_0\r\n[[rule]]\r\nusers = [0x3e8]\r\npaths = [\"/srv/tm\"]\r\nmax_hold = \"2d\"\r\ncan = [\"lock\"]\r\n",
	"deny alone":       "allow = [\"/srv/tm\"]\n[[deny]]\nusers=[\"*\"]\npaths=[\"/srv/tm\"]\n",
	"no rule":          "allow = [\"/srv/tm\"]\n[server]\nsocket_mode = \"0666\"\n[limits]\nholds = 3\n",
	"nobody is denied": "allow = [\"/srv/tm\"]\n[guard]\n[[rule]]\nusers=[\"*\"]\npaths=[\"/srv/tm\"]\ncan=[\"lock\"]\n",
	"odd bytes":        "allow = [\"/srv/tm\"]\n[[rule]]\nusers = [\"*\"]\npaths = [\"/srv/tm/caf\u00e9\", \"/srv/tm/new\\nline\", \"/srv/tm/q\\\"uote\", '/srv/tm/back\\slash', \"/srv/tm/{user}{uid}\"]\ncan = [\"lock\"]\n",
}
