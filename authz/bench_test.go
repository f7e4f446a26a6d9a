package authz

import (
	"fmt"
	"strings"
	"testing"
)

// manyRules is a policy of n rules and n denies for n users, each with their paths.
func manyRules(n int) string {
	var b strings.Builder
	b.WriteString(head)
	for i := range n {
		fmt.Fprintf(&b, "[[deny]]\nusers = [%d]\npaths = [\"/srv/tm/u%d/no\"]\n", i+3000, i)
	}
	for i := range n {
		fmt.Fprintf(&b, "[[rule]]\nusers = [%d]\npaths = [\"/srv/tm/u%d\", \"/srv/tm/{user}/u%d\"]\ncan = [\"lock\"]\n", i+3000, i, i)
	}
	return b.String()
}

func BenchmarkDecide(b *testing.B) {
	sample := parse(b, richPolicies["sample"])
	for _, c := range []struct {
		name string
		p    *Policy
		peer *Peer
		path string
		want bool
	}{
		{"sample allowed", sample, peerOf("alice"), "/srv/tm/alice/laptop.sparsebundle", true},
		{"sample by group", sample, peerOf("carol", 20, 34, 46, 1002), "/srv/tm/carol/laptop.sparsebundle", true},
		{"sample denied", sample, peerOf("alice"), "/srv/tm/archive/laptop.sparsebundle", false},
		{"sample outside", sample, peerOf("alice"), "/etc/shadow", false},
		{"sample root", sample, peerOf("root"), "/srv/tm/alice/laptop.sparsebundle", true},
	} {
		benchmarkDecide(b, c.name, c.p, c.peer, c.path, c.want)
	}
	for _, n := range []int{10, 100, 1000} {
		last := PeerFor(uint32(3000+n-1), 3000, nil)
		path := fmt.Sprintf("/srv/tm/u%d/laptop.sparsebundle", n-1)
		benchmarkDecide(b, fmt.Sprintf("%d rules and denies", n), parse(b, manyRules(n)), &last, path, true)
	}
}

func benchmarkDecide(b *testing.B, name string, p *Policy, peer *Peer, path string, want bool) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if p.Decide(peer, ActLock, path).Allowed != want {
				b.Fatal("decided otherwise")
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{"sample": richPolicies["sample"], "1000 rules and denies": manyRules(1000)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				parse(b, text)
			}
		})
	}
}
