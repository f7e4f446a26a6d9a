package fileservers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Of files that are no bundle's, too, a lock warns of whom it keeps out of nothing: who then writes as before. Whom it does not warn of is
// refused something, be the lock shared or not. Of a directory it says so once, if somebody serves it; and the command lines of 2016 say
// what they have always said.
func TestALockOfAPlainFileWarnsOfWhoIsNotKeptOut(t *testing.T) {
	for _, k := range append(sambas(), netatalks()...) {
		t.Run(k.name, func(t *testing.T) { plainFiles(t, k) })
	}
}

func plainFiles(t *testing.T, k kind) {
	k.need(t, "unshare")
	s := newSite(t)
	server := k.start(t, s.dir)
	m := server.dial(t)
	says := func(args ...string) string {
		t.Helper()
		return s.do(s.under(server, args...))
	}
	const warning, aside = "locker: warning: ", " keep "
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "script": 0o755} {
		file := filepath.Join(s.dir, name)
		must(t, os.WriteFile(file, []byte("as it was"), mode))
		must(t, os.Chown(file, nobody, nobody))
		if out := says("-lock", "-path", file); out != "ok - lock set\n" {
			t.Errorf("%s, as in 2016: %s", name, out)
		}
		predicted := s.doctorOf(server, file)
		says("unlock", file)
		for _, shared := range []string{"--shared=false", "--shared"} {
			for _, args := range [][]string{{"run", shared, file, "--", "true"}, {"lock", shared, file}} {
				if predicted.KeptOut == "no" { // again: testparm has a second's time
					s.until("a warning", func() bool { return strings.Contains(says(args...), warning+file+": does not"+aside) })
				} else if out := says(args...); strings.Contains(out, warning) {
					t.Errorf("%q, of what doctor calls kept out: %s:\n%s", args, predicted.KeptOut, out)
				}
			}
			if done := writes(m, name); done != (predicted.KeptOut == "no") || shared != "--shared" && done != slices.Contains(predicted.GetsThrough, "write") {
				t.Errorf("%s %s: that a client has written is %v; predicted: %+v", name, shared, done, predicted)
			}
			says("unlock", file)
		}
	}
	dir := filepath.Join(s.dir, "dir")
	must(t, os.Mkdir(dir, 0o755))
	s.until("one warning of a directory", func() bool {
		out := says("lock", dir)
		return strings.Count(out, warning) == 1 && strings.Contains(out, warning+dir+": a lock on a directory does not"+aside)
	})
}

// writes reports whether a client, which has no oplock, can write to a file.
func writes(m *mac, name string) bool {
	status, handle := m.asks("open %s rw rw", name)
	if status != "OK" {
		return false
	}
	status, _ = m.asks("write %s changed", handle)
	m.asks("close %s", handle)
	return status == "OK"
}
