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
		if got := pastShare(tt.s, tt.w); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, k := range []kept{keptNo, keptUnknown} {
		if got := pastNetatalk(worth{ofd: k}); !slices.Equal(got, everything()) {
			t.Errorf("netatalk, %v: %q, want everything", k, got)
		}
		for _, server := range []string{"nfs", "samba"} {
			e := examination{verdicts: []verdictOn{{server: server, kept: k}}}
			if e.tellPast(); !slices.Equal(e.verdicts[0].past, everything()) {
				t.Errorf("%s, %v: %q, want everything", server, k, e.verdicts[0].past)
			}
		}
	}
}

func TestNothingThatIsOpenedGetsPastTheGuard(t *testing.T) {
	byName := []string{pastDelete, pastRename}
	for name, s := range testparmSays(t, "four") {
		want := byName
		if !s.available {
			want = nil
		} else if !s.seen() {
			want = everything()
		}
		for _, w := range []worth{{ofd: keptYes}, {ofd: keptNo}, {ofd: keptUnknown}} {
			w.guard = guardsBundle
			if got := pastShare(s, w); !slices.Equal(got, want) {
				t.Errorf("share %s, %v: %q, want %q", name, w.ofd, got, want)
			}
			if got := pastNetatalk(w); !slices.Equal(got, []string{pastRename}) {
				t.Errorf("netatalk, %v: %q", w.ofd, got)
			}
			elsewhere := s
			elsewhere.objects, elsewhere.available = []string{"ceph"}, true
			if got := pastShare(elsewhere, w); !slices.Equal(got, everything()) {
				t.Errorf("share %s past the kernel: %q, want everything", name, got)
			}
		}
	}
}

// Of a bundle the lock covers the token alone, which is worth saying where somebody is kept out by it.
func TestBandsGetPastALockAndItIsSaid(t *testing.T) {
	plain := examination{paths: []pathReport{{path: "/p", kind: kindBundle}}, verdicts: []verdictOn{{path: "/p", server: "nfs", kept: keptYes}}}
	if plain.tellPast(); plain.verdicts[0].why != byToken+"; "+whyBands {
		t.Errorf("kept out without a word: says %q", plain.verdicts[0].why)
	}
	for _, kind := range []kind{kindBundle, kindFile} {
		for k := keptYes; k <= keptUnknown; k++ {
			e := examination{paths: []pathReport{{path: "/p", kind: kind}}, verdicts: []verdictOn{{path: "/p", server: "nfs", kept: k, why: "x"}}}
			e.tellPast()
			v := e.verdicts[0]
			if got, want := slices.Contains(v.past, pastBands), kind == kindBundle; got != want {
				t.Errorf("%v, %v: bands: %v", kind, k, got)
			}
			if got, want := strings.Contains(v.why, whyBands), kind == kindBundle && k <= keptPartly; got != want || !strings.HasPrefix(v.why, "x") || strings.Contains(v.why, byToken) {
				t.Errorf("%v, %v: says %q", kind, k, v.why)
			}
		}
	}
}
