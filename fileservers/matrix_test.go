package fileservers

import (
	"os/exec"
	"strings"
	"testing"
)

// What doctor says of a bundle and a server is what the server's clients then can do with it, and all they can do: every verb, of its token
// and of a band. With lockerd's guard that is nothing for which a file has to be opened.
func TestWhatGetsPastALockIsWhatDoctorHasPredicted(t *testing.T) {
	var trials []trial
	for _, k := range append(sambas(), netatalks()...) {
		trials = append(trials, trial{kind: k}, trial{kind: k, guard: true})
	}
	for _, s := range otherSettings {
		trials = append(trials, trial{kind: samba(s)})
	}
	for _, x := range trials {
		t.Run(x.String(), x.run)
	}
}

// In reverse: whatever the server's settings and the client's open, a bundle in use is not had, and is had as soon as it is not. What the
// look at its token cannot see, and the guide says so, is who has bands open without it.
func TestABundleThatAMacHasOpenIsNotHeld(t *testing.T) {
	for _, k := range append(sambas(), netatalks()...) {
		t.Run(k.name, func(t *testing.T) {
			k.need(t)
			s := newSite(t)
			m := k.start(t, s.dir).dial(t)
			for _, v := range k.verbs {
				if v.past == "truncate" { // opens as others do
					continue
				}
				open := func(file string) (handle string) {
					status, handle := m.asks("open mac.sparsebundle/%s %s %s %s", file, v.access, v.sharing, v.how)
					if status != "OK" {
						t.Fatalf("%s: open %s: %s", v.name, file, status)
					}
					return handle
				}
				shut := func(handle string) {
					if status, _ := m.asks("close %s", handle); status != "OK" {
						t.Errorf("%s: close: %s", v.name, status)
					}
				}
				token := open("token")
				out, err := s.locker("lock", "-n", s.bundle()).CombinedOutput()
				if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 120 {
					t.Errorf("%s: locker lock -n: %v\n%s", v.name, err, out)
				}
				waits := s.locker("run", "-w", "5m", s.bundle(), "--", "true")
				must(t, waits.Start())
				s.until("it waits for "+k.comm, func() bool {
					list := s.do(s.locker("list", "--all"))
					return strings.Contains(list, "waits 1") && strings.Contains(list, k.comm)
				})
				shut(token)
				if err := waits.Wait(); err != nil {
					t.Errorf("%s: locker run after the close: %v", v.name, err)
				}
				band := open("bands/0")
				// Not -n: the hold before has a copy, which the keeper may not have closed yet, and then somebody has the token open.
				s.do(s.locker("run", "-w", "1m", s.bundle(), "--", "true"))
				shut(band)
			}
			if out := s.do(s.locker("lock", s.bundle())); !strings.Contains(out, "idle") {
				t.Errorf("it does not rest on idle: %s", out)
			}
		})
	}
}
