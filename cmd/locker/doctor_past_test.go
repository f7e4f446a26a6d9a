package main

import (
	"slices"
	"strings"
	"testing"
)

// The words themselves are tried with real servers, by the tests in fileservers.
func TestWhoIsNotKnownToBeKeptOutIsTakenToDoEverything(t *testing.T) {
	shares := testparmSays(t, "four")
	good, lax := shares["netatalk"], shares["default"]
	lax.strict = "no"
	elsewhere, strange := lax, good
	elsewhere.objects = []string{"ceph"}
	strange.fruitLocks = "other"
	withoutLocks := slices.DeleteFunc(everything(), func(word string) bool { return word == pastLock })
	tests := []struct {
		name string
		s    share
		w    worth
		want []string
	}{
		{"nobody served", shares["off"], usual(), nil},
		{"lax", lax, usual(), withoutLocks},
		{"lax, a lock that is not there", lax, worth{ofd: keptNo, why: "no ofd"}, everything()},
		{"lax, but past the kernel", elsewhere, usual(), everything()},
		{"unknown setting", strange, usual(), everything()},
		{"a lock of unknown worth", good, worth{ofd: keptUnknown, why: "not tried"}, everything()},
		{"a lock that is not there", good, worth{ofd: keptNo, why: "no ofd"}, everything()},
	}
	for _, tt := range tests {
		if got := pastShare(tt.s, tt.w, judgeShare("/p", tt.s, tt.w).kept); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, k := range []kept{keptNo, keptUnknown} {
		for _, v := range []verdictOn{{server: "netatalk", kept: k}, {server: "nfs", kept: k}, {server: "samba", kept: k}} {
			e := examination{verdicts: []verdictOn{v}}
			if e.tellPast(); !slices.Equal(e.verdicts[0].past, everything()) {
				t.Errorf("%s, %v: %q, want everything", v.server, k, e.verdicts[0].past)
			}
		}
	}
}

// Of a bundle the lock covers the token alone, which is worth saying where somebody is kept out.
func TestBandsGetPastALockAndItIsSaid(t *testing.T) {
	for _, kind := range []kind{kindBundle, kindFile} {
		for k := keptYes; k <= keptUnknown; k++ {
			e := examination{paths: []pathReport{{path: "/p", kind: kind}}, verdicts: []verdictOn{{path: "/p", server: "netatalk", kept: k, why: "x"}}}
			e.tellPast()
			v := e.verdicts[0]
			if got, want := slices.Contains(v.past, pastBands), kind == kindBundle; got != want {
				t.Errorf("%v, %v: bands: %v", kind, k, got)
			}
			if got, want := strings.Contains(v.why, whyBands), kind == kindBundle && k <= keptPartly; got != want || !strings.HasPrefix(v.why, "x") {
				t.Errorf("%v, %v: says %q", kind, k, v.why)
			}
		}
	}
}
