package authz

import (
	"strings"
	"testing"
)

func TestStandaloneServesRootAndItsOwnUserAlone(t *testing.T) {
	p, err := Standalone([]string{"/srv/tm", "/srv/tm", "/srv/{x}"}, 1000, map[uint32]string{1000: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]Why{"root": WhyRoot, "alice": WhyRule, "bob": WhyNoRule} {
		peer := peerOf(user)
		for _, a := range everyAction {
			for path, why := range map[string]Why{"/srv/tm/x": want, "/srv/{x}/y": want, "/srv": WhyOutside, "/srv/tm/../x": WhyBadPath} {
				d := p.Decide(peer, a, path)
				if d.Why != why || d.Allowed != (why == WhyRoot || why == WhyRule) {
					t.Errorf("%s %s %q: got %+v, want %v", user, a, path, d, why)
				}
			}
		}
		if got := p.Connect(peer); got != (want != WhyNoRule) {
			t.Errorf("%s: connect %v", user, got)
		}
		if got := len(p.Allowances(peer)); (got > 0) != (want != WhyNoRule) {
			t.Errorf("%s: %d allowances", user, got)
		}
	}
	if len(p.Allow) != 2 || p.Name(1000) != "alice" || p.Server.SocketMode != 0o600 || p.File != "" || p.Limits != DefaultLimits() {
		t.Errorf("%+v", p)
	}
	for _, allow := range [][]string{nil, {"/"}, {"x"}, {""}, {"/srv/"}, {"/proc"}, {"/proc/1"}, {"/sys"}, {"/dev"}, {"/run"}, {"/var/run"}, {"/srv/a", "/srv/../b"}} {
		if _, err := Standalone(allow, 1000, nil); err == nil || !strings.HasPrefix(err.Error(), "allow") {
			t.Errorf("allow %q: %v", allow, err)
		}
	}
	for _, uid := range []uint32{65534, 1<<32 - 1} {
		if _, err := Standalone([]string{"/srv"}, uid, nil); err == nil {
			t.Errorf("uid %d runs lockerd", uid)
		}
	}
}
