package authz

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// naiveRule is a rule as a reader of the design would note it down.
type naiveRule struct {
	deny          bool
	users         []string // names, numbers, or "*"
	groups, paths []string
	hold, wait    time.Duration
	holds         int
	engines, can  []string
	hardlinks     bool
	quiet         time.Duration
}

// naivePolicy decides slowly and plainly; FuzzDecide compares Policy with it.
type naivePolicy struct {
	allow []string
	rules []naiveRule
}

// naiveBelow compares component by component.
func naiveBelow(path, root string) bool {
	p, r := strings.Split(path, "/"), strings.Split(root, "/")
	return len(p) >= len(r) && slices.Equal(p[:len(r)], r)
}

func naiveClean(path string) bool {
	if !strings.HasPrefix(path, "/") || len(path) > 4095 || strings.Contains(path, "\x00") {
		return false
	}
	for _, name := range strings.Split(path, "/")[1:] {
		if name == "" || name == "." || name == ".." {
			return false
		}
	}
	return true
}

func (r *naiveRule) matches(uid, gid uint32, groups []uint32, path string) bool {
	names, _ := testUsers().Names()
	who := false
	for _, u := range r.users {
		who = who || u == "*" || u == strconv.Itoa(int(uid)) || u == names[uid] && names[uid] != ""
	}
	for _, g := range r.groups {
		for _, have := range append([]uint32{gid}, groups...) {
			id, known := testUsers().groups[g]
			who = who || g == strconv.Itoa(int(have)) || known && id == have
		}
	}
	where := false
	for _, root := range r.paths {
		user := names[uid]
		if strings.Contains(root, "{user}") {
			if user == "" || user == "." || user == ".." || strings.ContainsFunc(user, func(c rune) bool { return c == '/' || c < 32 || c == 127 }) {
				continue
			}
		}
		full := strings.NewReplacer("{user}", user, "{uid}", strconv.Itoa(int(uid))).Replace(root)
		where = where || naiveBelow(path, full)
	}
	return who && where
}

func (n *naivePolicy) decide(uid, gid uint32, groups []uint32, a Action, path string) Decision {
	bad := func(id uint32) bool { return id == 65534 || id == 4294967295 }
	if bad(uid) || bad(gid) {
		return Decision{Why: WhyUnknownPeer}
	}
	if !naiveClean(path) {
		return Decision{Why: WhyBadPath}
	}
	if !slices.ContainsFunc(n.allow, func(root string) bool { return naiveBelow(path, root) }) {
		return Decision{Why: WhyOutside}
	}
	var allow []naiveRule
	some := false
	for _, r := range n.rules {
		some = some || !r.deny
		if r.matches(uid, gid, groups, path) {
			if r.deny {
				return Decision{Why: WhyDeny}
			}
			if slices.Contains(r.can, a.String()) {
				allow = append(allow, r)
			}
		}
	}
	d := Decision{Why: WhyNoRule}
	for i, r := range allow {
		if i == 0 {
			d = Decision{Allowed: true, Why: WhyRule, MaxHold: r.hold, MaxWait: r.wait, Holds: r.holds, Quiet: r.quiet}
		}
		if r.hold == 0 || d.MaxHold != 0 && r.hold > d.MaxHold {
			d.MaxHold = r.hold
		}
		if r.wait == 0 || d.MaxWait != 0 && r.wait > d.MaxWait {
			d.MaxWait = r.wait
		}
		if r.holds == 0 || d.Holds != 0 && r.holds > d.Holds {
			d.Holds = r.holds
		}
		if len(r.engines) == 0 || slices.Contains(r.engines, "ofd") {
			d.Engines |= OFD
		}
		if len(r.engines) == 0 || slices.Contains(r.engines, "flock") {
			d.Engines |= Flock
		}
		d.Hardlinks = d.Hardlinks || r.hardlinks
		if r.quiet < d.Quiet {
			d.Quiet = r.quiet
		}
	}
	if uid == 0 && some {
		return Decision{Allowed: true, Why: WhyRoot, Engines: OFD | Flock, Hardlinks: d.Hardlinks}
	}
	return d
}

// text writes the policy as a file.
func (n *naivePolicy) text() string {
	list := func(words []string) string {
		var quoted []string
		for _, w := range words {
			if _, err := strconv.Atoi(w); err == nil {
				quoted = append(quoted, w)
			} else {
				quoted = append(quoted, "'"+w+"'")
			}
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "allow = %s\n", list(n.allow))
	for _, deny := range []bool{true, false} {
		for _, r := range n.rules {
			if r.deny != deny {
				continue
			}
			fmt.Fprintf(&b, "[[%s]]\n", map[bool]string{true: "deny", false: "rule"}[deny])
			for key, words := range map[string][]string{"users": r.users, "groups": r.groups, "paths": r.paths, "engines": r.engines} {
				if len(words) > 0 && !(deny && key == "engines") {
					fmt.Fprintf(&b, "%s = %s\n", key, list(words))
				}
			}
			if deny {
				continue
			}
			if r.hold > 0 {
				fmt.Fprintf(&b, "max_hold = %q\n", r.hold)
			}
			if r.wait > 0 {
				fmt.Fprintf(&b, "max_wait = %q\n", r.wait)
			}
			if r.holds > 0 {
				fmt.Fprintf(&b, "holds = %d\n", r.holds)
			}
			if r.quiet > 0 {
				fmt.Fprintf(&b, "quiet = %q\n", r.quiet)
			}
			fmt.Fprintf(&b, "hardlinks = %v\ncan = %s\n", r.hardlinks, list(r.can))
		}
	}
	return b.String()
}

// drawer draws choices from fuzzed bytes; at their end it draws zeros.
type drawer struct{ bytes []byte }

func (d *drawer) n(below int) int {
	if len(d.bytes) == 0 {
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return int(b) % below
}

// some draws up to most different words.
func (d *drawer) some(most int, words ...string) []string {
	var drawn []string
	for range d.n(most + 1) {
		if w := words[d.n(len(words))]; !slices.Contains(drawn, w) {
			drawn = append(drawn, w)
		}
	}
	return drawn
}

func drawPolicy(d *drawer) *naivePolicy {
	n := &naivePolicy{allow: append([]string{"/a"}, d.some(3, "/b", "/a/b", "/c/d", "/alice")...)}
	for range d.n(7) {
		r := naiveRule{
			deny:   d.n(3) == 0,
			users:  d.some(3, "alice", "1001", "root", "0", "2006", "7777", "carol"),
			groups: d.some(2, "backup", "50", "4", "7777"),
			paths:  append([]string{"/a/x"}, d.some(3, "/a", "/a/b", "/a/{user}", "/a/{uid}", "/a/b{user}/{uid}", "/a/{user}{uid}", "/a/.{user}", "/a/b/c")...),
			hold:   time.Duration(d.n(4)) * time.Hour, wait: time.Duration(d.n(4)) * time.Minute, holds: d.n(4),
			engines: d.some(2, "ofd", "flock"), hardlinks: d.n(2) == 1, quiet: time.Duration(d.n(3)) * time.Second,
			can: append([]string{"list"}, d.some(3, "lock", "lock-shared", "break")...),
		}
		if len(r.users)+len(r.groups) == 0 {
			r.users = []string{"*"}
		}
		n.rules = append(n.rules, r)
	}
	return n
}

// Decide agrees with a reference that works on split strings and sees only the
// text's meaning, never what Parse made of it.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{}, uint32(1000), uint32(1000), uint32(34), uint8(1), "/a/x")
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, uint32(1001), uint32(50), uint32(4), uint8(2), "/a/bob")
	f.Add([]byte("any bytes draw some policy or other, so here are some of them for a start"), uint32(0), uint32(0), uint32(0), uint8(4), "/a/b/c")
	f.Add([]byte{3, 1, 2, 3, 6, 1, 0, 1, 2, 3, 4, 1, 2, 1, 1, 1, 1, 2, 2, 2, 2, 1, 1}, uint32(2006), uint32(7777), uint32(0), uint8(3), "/a/../bob")
	f.Add([]byte{0, 6, 1, 0, 0, 2, 2, 3, 2, 2, 2, 2, 1, 1, 2, 2, 1, 0, 0, 0, 0}, uint32(65534), uint32(0), uint32(0), uint8(1), "/a/x/\xff")
	for _, path := range []string{"/a/alice", "/a/1000", "/a/alice1000/z", "/a/.alice", "/a/balice/1000", "/a/xy", "/a/x/", "", "/", "a", "/a//x", "/a/x\x00", "/b", "/alice"} {
		f.Add([]byte{3, 0, 1, 3, 5, 1, 1, 0, 0, 3, 2, 3, 4, 1, 1, 1, 1, 0, 1, 3, 0, 1, 2, 1, 1, 0, 0, 3, 5, 6, 7}, uint32(1000), uint32(1000), uint32(34), uint8(1), path)
	}
	f.Fuzz(func(t *testing.T, policy []byte, uid, gid, group uint32, a uint8, path string) {
		n := drawPolicy(&drawer{policy})
		p, err := Parse("p.toml", []byte(n.text()), testUsers())
		if err != nil {
			t.Fatalf("%v\n%s", err, n.text())
		}
		action := Action(a%4 + 1)
		groups := []uint32{group, 7, group / 2}
		peer := PeerFor(uid, gid, groups)
		names, _ := testUsers().Names()
		for _, path := range []string{path, "/a/" + names[uid], "/a/" + names[uid] + "/" + path, fmt.Sprint("/a/", uid), fmt.Sprint("/a/b", names[uid], "/", uid), "/a/b/c" + path} {
			got, want := p.Decide(&peer, action, path), n.decide(uid, gid, groups, action, path)
			explained := p.Explain(&peer, action, path)
			if explained.Decision != got || explained.By == "" {
				t.Fatalf("explained as %+v, decided %+v", explained, got)
			}
			if (got.Line > 0) != (got.Why == WhyRule || got.Why == WhyDeny) {
				t.Fatalf("line %d of %v", got.Line, got.Why)
			}
			got.Rule, got.Line = "", 0
			if got != want {
				t.Fatalf("uid %d gid %d groups %v %s %q\n got %+v\nwant %+v\n%s", uid, gid, groups, action, path, got, want, n.text())
			}
		}
	})
}
