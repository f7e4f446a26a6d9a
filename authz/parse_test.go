package authz

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSampleMeansWhatItSays(t *testing.T) {
	p := parse(t, richPolicies["sample"])
	limits := DefaultLimits()
	limits.Connections, limits.Holds, limits.UnsentAll = 64, 10, 128<<10
	want := &Policy{
		File:   "p.toml",
		SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(richPolicies["sample"]))),
		Allow:  []string{"/srv/tm", "/srv/backups"},
		Server: Server{Socket: "/run/locker.sock", SocketMode: 0o660, SocketGroup: 34, HasSocketGroup: true, StateDir: "/var/lib/locker"},
		Audit:  AuditSettings{SegmentSize: 64 << 20},
		Limits: limits,
		Guard:  []string{"/usr/sbin/smbd", "/usr/sbin/afpd"},
	}
	got := *p
	got.rules, got.denies, got.names = nil, nil, nil
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got %+v\nwant %+v", &got, want)
	}
	if p.RuleCount() != 3 || len(p.denies) != 2 {
		t.Errorf("%d rules, %d denies", p.RuleCount(), len(p.denies))
	}
	for i, line := range []int{30, 42, 48} {
		if p.rules[i].line != line {
			t.Errorf("rule %d: line %d, want %d", i, p.rules[i].line, line)
		}
	}
	if r := p.rules[0]; r.name != "own bundles" || r.maxHold != 12*time.Hour || r.maxWait != time.Hour || r.holds != 80 || r.engines != Flock || r.quiet != 30*time.Second {
		t.Errorf("%+v", r)
	}
	if r := p.denies[1]; r.name != "deny 2" || r.named || r.engines != 0 || r.can != 0 {
		t.Errorf("%+v", r)
	}
	if p.Name(1000) != "alice" || p.Name(1) != "" {
		t.Errorf("names %q %q", p.Name(1000), p.Name(1))
	}
}

func TestDefaultsAreThoseOfTheDesign(t *testing.T) {
	p := parse(t, head)
	if want := (Server{Socket: "/run/locker.sock", SocketMode: 0o600, StateDir: "/var/lib/locker"}); p.Server != want {
		t.Errorf("got %+v, want %+v", p.Server, want)
	}
	if p.Audit.SegmentSize != 64<<20 || p.Limits != DefaultLimits() {
		t.Errorf("%+v %+v", p.Audit, p.Limits)
	}
	l := DefaultLimits()
	for _, k := range l.keys() {
		if *k.field < 1 || *k.field > k.max {
			t.Errorf("%s: default %d is not within 1 to %d", k.key, *k.field, k.max)
		}
	}
}

func TestSocketModes(t *testing.T) {
	for text, want := range map[string]fs.FileMode{
		`socket_mode = "0600"`:                         0o600,
		`socket_mode = "600"`:                          0o600,
		`socket_mode = "0660"`:                         0o660,
		`socket_mode = "0666"`:                         0o666,
		`socket_mode = "0620"`:                         0o620,
		`socket_group = 34`:                            0o660,
		"socket_group = 34\nsocket_mode = '0620'":      0o620,
		"socket_group = 'staff'\nsocket_mode = '0666'": 0o666,
	} {
		if got := parse(t, head+"[server]\n"+text).Server.SocketMode; got != want {
			t.Errorf("%s: got %o, want %o", text, got, want)
		}
	}
}

func TestEveryLimitIsSetByItsKey(t *testing.T) {
	var l Limits
	text := head + "[limits]\n"
	for i, k := range l.keys() {
		text += fmt.Sprintf("%s = %d\n", k.key, 100+i)
		*k.field = 100 + i
	}
	l.UnsentAll = 2 << 20
	if got := parse(t, text+"unsent = \"2MiB\"\n").Limits; got != l {
		t.Errorf("got %+v, want %+v", got, l)
	}
	value := reflect.ValueOf(l)
	for i := range value.NumField() {
		if value.Field(i).Int() == 0 {
			t.Errorf("no key sets %s", value.Type().Field(i).Name)
		}
	}
}

func TestDurationsAndSizes(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * day, "1d12h": 36 * time.Hour, "1ns": 1, "1.5h": 90 * time.Minute,
		"36500d": 36500 * day, "1d0s": day, "106750d": 106750 * day, "+1h": time.Hour,
	} {
		if got, err := parseDuration(s); got != want || err != nil {
			t.Errorf("%q: got %v %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "1", "1d1", "d1h", "1d+1h", "1d-1h", "-1h", "+1d", "0", "0d0h", "1h2d", "106751d", "106750d2000000h", "1 d", "1D", "１h", "9223372036s9223372036s"} {
		if got, err := parseDuration(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
	for s, want := range map[string]int64{"1B": 1, "0B": 0, "64KiB": 64 << 10, "3MiB": 3 << 20, "4GiB": 4 << 30, "007KiB": 7 << 10} {
		if got, err := parseSize(s); got != want || err != nil {
			t.Errorf("%q: got %v %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "B", "1", "1K", "1KB", "1kib", "1 KiB", "1TiB", "-1B", "+1B", "1.5KiB", "0x1B", "1e3B", "4294967296B", "1MiBB", "1MiB "} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1: "1B", 1023: "1023B", 65536: "64KiB", 1 << 20: "1MiB", 1<<30 + 1: "1073741825B", 4 << 30: "4GiB"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestNearestWord(t *testing.T) {
	words := []string{"users", "groups", "paths", "max_hold", "max_wait", "can"}
	for word, want := range map[string]string{
		"user": "users", "USERS": "users", "suers": "users", "path": "paths", "maxwait": "max_wait", "cna": "can", "xyz": "", "": "",
		"a": "", "in": "", strings.Repeat("users", 100): "", "group": "groups",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// brokenUsers is a database that cannot be read.
type brokenUsers struct{ fakeUsers }

func (brokenUsers) Names() (map[uint32]string, error)   { return nil, errors.New("disk on fire") }
func (brokenUsers) UID(name string) (uint32, error)     { return 0, errors.New("disk on fire") }
func (u brokenUsers) GID(name string) (uint32, error)   { return 0, errors.New("disk on fire") }
func (u brokenUsers) GroupNames() (n []string, e error) { return nil, errors.New("disk on fire") }

// changingUsers gives every question another answer.
type changingUsers struct {
	fakeUsers
	names map[uint32]string
	asked *int
}

func (u changingUsers) Names() (map[uint32]string, error) { return u.names, nil }
func (u changingUsers) UID(string) (uint32, error)        { *u.asked++; return uint32(1000 + *u.asked), nil }

func TestNamesAreTakenOnceWhenThePolicyIsLoaded(t *testing.T) {
	u := changingUsers{testUsers(), map[uint32]string{1001: "alice"}, new(int)}
	text := head + "[[rule]]\nusers = [\"alice\"]\npaths = [\"/srv/tm/{user}\"]\n" + tail +
		"[[rule]]\nusers = [\"alice\"]\npaths = [\"/srv/tm/{user}\"]\n" + tail
	p, err := Parse("p.toml", []byte(text), u)
	if err != nil {
		t.Fatal(err)
	}
	u.names[1001] = "mallory"
	peer := PeerFor(1001, 1001, nil)
	if d := p.Decide(&peer, ActLock, "/srv/tm/alice"); !d.Allowed || *u.asked != 1 {
		t.Errorf("%+v, asked %d times", d, *u.asked)
	}
	if d := p.Decide(&peer, ActLock, "/srv/tm/mallory"); d.Allowed {
		t.Errorf("the user database is asked while deciding: %+v", d)
	}
}

func TestAUserDatabaseThatFailsIsAnError(t *testing.T) {
	if _, err := Parse("p.toml", []byte(head), brokenUsers{}); err == nil || !strings.Contains(err.Error(), "user database: disk on fire") {
		t.Errorf("%v", err)
	}
	r := newResolver(brokenUsers{testUsers()}, nil)
	for _, ask := range []func(any) (uint32, error){r.uid, r.gid} {
		if _, err := ask("alice"); err == nil || !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("%v", err)
		}
	}
}

func TestATextThatScannerAndLibraryReadDifferentlyIsRefused(t *testing.T) {
	tables := []table{{line: 1}, {name: "server", line: 2, entries: []entry{{key: "socket", line: 3}}}}
	for name, values := range map[string]map[string]any{
		"table missing":      {},
		"key missing":        {"server": map[string]any{}},
		"key left over":      {"server": map[string]any{"socket": "/a/b", "state_dir": "/c"}},
		"table left over":    {"server": map[string]any{"socket": "/a/b"}, "rule": []map[string]any{{"can": "x"}}},
		"a list, not a text": {"server": map[string]any{"socket": []any{}}},
		"another shape":      {"server": []map[string]any{{"socket": "/a/b"}}},
	} {
		if p := join(tables, values); p == nil || !strings.Contains(p.text, "cannot be followed") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := join(tables, map[string]any{"server": map[string]any{"socket": "/a/b"}}); p != nil {
		t.Errorf("%+v", p)
	}
}
