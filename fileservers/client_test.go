package fileservers

import (
	"os/exec"
	"strings"
	"testing"
)

// Who waits is told not only that it is an smbd, but whose.
func TestTheClientOfTheSmbdThatIsInTheWayIsNamed(t *testing.T) {
	needSamba(t)
	for _, set := range settings {
		t.Run(set.name, func(t *testing.T) {
			s := newSite(t)
			m := startSmbd(t, s.dir, set).dial(t)
			status, handle := m.asks("open mac.sparsebundle/token rw rw")
			if status != "OK" {
				t.Fatalf("open: %s", status)
			}
			const want = "for 127.0.0.1"
			for _, args := range [][]string{{"lock", "-n", s.bundle()}, {"lock", "-w", "1s", s.bundle()}} {
				s.until("its client is named", func() bool { // again, since on a busy machine a search is cut off by its clock
					out, err := s.locker(args...).CombinedOutput()
					if _, refused := err.(*exec.ExitError); !refused {
						t.Fatalf("locker %v: %v\n%s", args, err, out)
					}
					return strings.Contains(string(out), "smbd (pid ") && strings.Contains(string(out), want)
				})
			}
			waits := s.locker("run", s.bundle(), "--", "true")
			must(t, waits.Start())
			s.until("its client is listed", func() bool { return strings.Contains(s.do(s.locker("list", "--all")), want) })
			m.asks("close %s", handle)
			must(t, waits.Wait())
		})
	}
}
