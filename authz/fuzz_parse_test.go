package authz

import (
	"regexp"
	"strings"
	"testing"
)

var errorLine = regexp.MustCompile(`^p\.toml:[1-9][0-9]*: .`)

// No text makes Parse panic, every error has its line, and whatever is a policy
// obeys the prefix law.
func FuzzParse(f *testing.F) {
	for _, text := range richPolicies {
		f.Add(text)
	}
	for _, table := range [][]badPolicy{badSyntax(), badSettings(), badRules()} {
		for _, bad := range table {
			if len(bad.text) < 500 {
				f.Add(bad.text)
			}
		}
	}
	peers := []*Peer{{}, peerOf("root"), peerOf("alice"), peerOf("carol", 34), peerOf("../bob"), peerOf("dave-admin", 4)}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p.toml", []byte(text), testUsers())
		if err != nil {
			if p != nil {
				t.Fatal("a policy and an error")
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !errorLine.MatchString(line) {
					t.Fatalf("error without a line: %q in\n%s", line, err)
				}
			}
			return
		}
		for _, entry := range p.Allow {
			if err := CheckPath(entry); err != nil {
				t.Fatalf("allow %q: %v", entry, err)
			}
		}
		for i := range p.rules {
			if r := &p.rules[i]; r.can == 0 || r.engines == 0 || len(r.paths) == 0 || !r.everyone && len(r.uids)+len(r.gids) == 0 {
				t.Fatalf("rule without its parts: %+v", r)
			}
		}
		if err := checkPrograms(p.Guard); err != nil {
			t.Fatalf("[guard]: %v", err)
		}
		for _, program := range p.Guard {
			if err := CheckPath(program); err != nil {
				t.Fatalf("[guard] %q: %v", program, err)
			}
		}
		if p.Diff(p) != nil {
			t.Fatalf("differs from itself: %q", p.Diff(p))
		}
		if len(text) <= 1000 {
			holdsPrefixLaw(t, text, p, peers)
		}
	})
}
