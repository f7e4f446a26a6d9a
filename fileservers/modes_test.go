package fileservers

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// modes are all ways to open by AFP: what is wanted, and what is shared with others.
func modes() []string {
	var all []string
	for _, access := range []string{"-", "r", "w", "rw"} {
		for _, sharing := range []string{"rw", "r", "w", "-"} {
			all = append(all, access+" "+sharing)
		}
	}
	return all
}

// The imitation is one: whatever two forks of a file ask for, of one client or of two, it answers as a real afpd did whose answers
// testdata/afpd-4.2.3.txt has. A line there is a mode that somebody has, a column one that is then asked for.
func TestTheImitationAnswersAsAfpdDid(t *testing.T) {
	did, err := os.ReadFile("testdata/afpd-4.2.3.txt")
	must(t, err)
	for _, k := range netatalks() {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			s := newSite(t)
			server := k.start(t, s.dir)
			one, two := server.dial(t), server.dial(t)
			var does bytes.Buffer
			for _, other := range []*mac{one, two} {
				does.WriteString(map[*mac]string{one: "by one client\n", two: "by two\n"}[other])
				for _, had := range modes() {
					status, first := one.asks("open mac.sparsebundle/token %s", had)
					if status != "OK" {
						t.Fatalf("open %s: %s", had, status)
					}
					line := strings.ReplaceAll(had, " ", "/")
					does.WriteString(line + strings.Repeat(" ", 8-len(line)))
					for _, wanted := range modes() {
						status, second := other.asks("open mac.sparsebundle/token %s", wanted)
						switch status {
						case "OK":
							does.WriteString(" .")
							other.asks("close %s", second)
						case "DenyConflict":
							does.WriteString(" x")
						default:
							t.Errorf("%s, then %s: %s", had, wanted, status)
						}
					}
					does.WriteString("\n")
					one.asks("close %s", first)
				}
			}
			if does.String() != string(did) {
				t.Errorf("it does\n%s\nwant\n%s", does.String(), did)
			}
		})
	}
}
