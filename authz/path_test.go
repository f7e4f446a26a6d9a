package authz

import (
	"strings"
	"testing"
)

func TestPrefixesMatchWholeComponents(t *testing.T) {
	for _, c := range []struct {
		rule, path string
		want       bool
	}{
		{"/srv/tm/a", "/srv/tm/a", true},
		{"/srv/tm/a", "/srv/tm/a/b", true},
		{"/srv/tm/a", "/srv/tm/a/b/c", true},
		{"/srv/tm/a", "/srv/tm/ab", false},
		{"/srv/tm/a", "/srv/tm/a.b", false},
		{"/srv/tm/a", "/srv/tm/a b", false},
		{"/srv/tm/a", "/srv/tm/A", false},
		{"/srv/tm/a", "/srv/tm", false},
		{"/srv/tm/a", "/srv/tm/b/a", false},
		{"/srv/tm/a", "/srv/tm/a\n", false},
		{"/srv/tm/a", "/srv/tm/a\\b", false},
		{"/srv/tm/a", "/srv/tm/a\xff", false},
		{"/srv/tm/a", "/srv/tm/a/\xff\xfe", true},
		{"/srv/tm/a", "/srv/tm/a/\n\x1b[31m", true},
		{"/srv/tm/caf\u00e9", "/srv/tm/caf\u00e9", true},
		{"/srv/tm/caf\u00e9", "/srv/tm/cafe\u0301", false}, // the same to the eye, other bytes
		{"/srv/tm/caf\u00e9", "/srv/tm/caf\xe9", false},
		{"/srv/tm", "/srv/tmp", false},
		{"/srv/tm", "/srv/tm", true},
	} {
		d := parse(t, one(c.rule)).Decide(peerOf("alice"), ActLock, c.path)
		if d.Allowed != c.want {
			t.Errorf("rule %q, path %q: got %+v, want %v", c.rule, c.path, d, c.want)
		}
	}
}

var badPaths = map[string]error{
	"": ErrPathEmpty, "/": ErrPathRoot, "//": ErrPathDouble, "///": ErrPathDouble,
	"srv/tm": ErrPathRelative, ".": ErrPathRelative, "..": ErrPathRelative, "~": ErrPathRelative,
	"./srv/tm": ErrPathRelative, "\x00/srv/tm": ErrPathRelative, " /srv/tm": ErrPathRelative,
	"/srv/tm/": ErrPathSlash, "/srv/tm//": ErrPathDouble, "//srv/tm": ErrPathDouble, "/srv//tm": ErrPathDouble,
	"/srv/tm/.": ErrPathDot, "/./srv/tm": ErrPathDot, "/srv/./tm": ErrPathDot, "/.": ErrPathDot, "/srv/tm/./": ErrPathDot,
	"/srv/tm/..": ErrPathDotDot, "/..": ErrPathDotDot, "/../srv/tm": ErrPathDotDot, "/srv/tm/../tm/x": ErrPathDotDot,
	"/srv/tm/a\x00": ErrPathNUL, "/srv/tm/\x00/b": ErrPathNUL, "/srv/tm/a\x00/../../etc": ErrPathNUL,
	"/srv/tm/" + strings.Repeat("x", MaxPath-7): ErrPathTooLong, "/" + strings.Repeat("x/", 1<<16): ErrPathTooLong,
}

func TestUncleanPathsAreRefusedAndNeverRepaired(t *testing.T) {
	p := parse(t, one("/srv/tm"))
	for path, want := range badPaths {
		if got := CheckPath(path); got != want {
			t.Errorf("%.60q: got %v, want %v", path, got, want)
		}
		for _, peer := range []*Peer{peerOf("alice"), peerOf("root")} {
			if d := p.Decide(peer, ActLock, path); d.Allowed || d.Why != WhyBadPath {
				t.Errorf("uid %d, %.60q: %+v", peer.UID, path, d)
			}
		}
	}
	for _, path := range []string{
		"/srv/tm/...", "/srv/tm/..a", "/srv/tm/.a", "/srv/tm/a..", "/srv/tm/a.", "/srv/tm/ ", "/srv/tm/\n",
		"/srv/tm/\xff", "/srv/tm/-rf", "/srv/tm/*", "/srv/tm/{user}", "/srv/tm/" + strings.Repeat("x", MaxPath-8),
	} {
		if err := CheckPath(path); err != nil {
			t.Errorf("%.60q: %v", path, err)
		}
		if d := p.Decide(peerOf("alice"), ActLock, path); !d.Allowed {
			t.Errorf("%.60q: %+v", path, d)
		}
	}
}

func TestTemplatesCannotBeAttacked(t *testing.T) {
	const both = "/srv/tm/{user}"
	for _, c := range []struct {
		rule, user, path string
		want             bool
	}{
		{both, "alice", "/srv/tm/alice", true},
		{both, "alice", "/srv/tm/alice/a", true},
		{both, "alice", "/srv/tm/alicex", false},
		{both, "alice", "/srv/tm/bob", false},
		{both, "alice", "/srv/tm", false},
		{both, "alice", "/srv/tm/{user}", false},
		{both, "alice", "/srv/tm/ALICE", false},
		{both, "a b", "/srv/tm/a b", true},
		{both, "...", "/srv/tm/.../x", true},
		{both, "*", "/srv/tm/*", true},
		{both, "*", "/srv/tm/alice", false},
		{both, "caf\u00e9", "/srv/tm/caf\u00e9", true},
		{both, "\xff\xfe", "/srv/tm/\xff\xfe/x", true},
		{both, "{uid}", "/srv/tm/2008", false}, // a value is never expanded again
		{both, "{uid}", "/srv/tm/{uid}", true},
		{both, "a/b", "/srv/tm/a/b", false},
		{both, "a/b", "/srv/tm/a", false},
		{both, "/", "/srv/tm/x", false},
		{both, ".", "/srv/tm/x", false},
		{both, "..", "/srv/tm/x", false},
		{both, "../bob", "/srv/tm/bob", false},
		{both, "alice/../bob", "/srv/tm/alice", false},
		{both, "", "/srv/tm/x", false},
		{both, "", "/srv/tm", false},
		{both, "a\nb", "/srv/tm/a\nb", false},
		{both, "tab\there", "/srv/tm/tab\there", false},
		{both, "del\x7f", "/srv/tm/del\x7f", false},
		{"/srv/tm/{user}.sparsebundle", "alice", "/srv/tm/alice.sparsebundle/token", true},
		{"/srv/tm/{user}.sparsebundle", "alice", "/srv/tm/alice/x.sparsebundle", false},
		{"/srv/tm/x{user}", "", "/srv/tm/x", false},
		{"/srv/tm/.{user}", ".", "/srv/tm/..", false},
		{"/srv/tm/x{user}", ".", "/srv/tm/x.", false},
		{"/srv/tm/x{user}", "..", "/srv/tm/x..", false},
		{"/srv/tm/{user}{user}", "bob", "/srv/tm/bobbob", true},
		{"/srv/tm/{user}-{uid}/in", "bob", "/srv/tm/bob-1001/in/x", true},
		{"/srv/tm/{user}-{uid}/in", "bob", "/srv/tm/bob-1001", false},
		{"/srv/tm/{uid}", "bob", "/srv/tm/1001", true},
		{"/srv/tm/{uid}", "bob", "/srv/tm/01001", false},
		{"/srv/tm/{uid}", "bob", "/srv/tm/10010", false},
		{"/srv/tm/{uid}", "bob", "/srv/tm/100", false},
		{"/srv/tm/{uid}", "a/b", "/srv/tm/2001", true}, // the number is safe whatever the name
		{"/srv/tm-{user}/x", "alice", "/srv/tm-alice/x", false},
	} {
		d := parse(t, one(c.rule)).Decide(peerOf(c.user), ActLock, c.path)
		if d.Allowed != c.want {
			t.Errorf("rule %q, user %q, path %q: got %+v, want %v", c.rule, c.user, c.path, d, c.want)
		}
	}
	stranger := PeerFor(7777, 7777, nil)
	if d := parse(t, one(both)).Decide(&stranger, ActLock, "/srv/tm/x"); d.Allowed {
		t.Errorf("a uid without a name: %+v", d)
	}
}
