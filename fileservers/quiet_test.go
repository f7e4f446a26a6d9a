package fileservers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stranger is a uid that no test's machine has: root's locks wait for no quiet.
const stranger = 54321

// asksForQuiet starts a lockerd with a policy beside the one of the site, and gives how the stranger's locker is run.
func (s *site) asksForQuiet(quiet string) func(args ...string) *exec.Cmd {
	t := s.t
	t.Helper()
	home, err := os.MkdirTemp("/root", ".locker-test-") // lockerd takes no policy from below a directory that others can write
	if err != nil {
		t.Skipf("needs a place for a policy: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	top := filepath.Dir(s.dir)
	policy, socket := filepath.Join(home, "locker.toml"), filepath.Join(top, "quiet")
	text := fmt.Sprintf("allow = [%q]\n[server]\nsocket_mode = \"0666\"\n[[rule]]\nusers = [%d]\npaths = [%q]\nquiet = %q\ncan = [\"lock\", \"list\"]\n", s.dir, stranger, s.dir, quiet)
	must(t, os.WriteFile(policy, []byte(text), 0o600))
	cmd := exec.Command(filepath.Join(s.bin, "lockerd"), "--config", policy, "--socket", socket, "--state-dir", filepath.Join(top, "state-quiet"), "--log-level", "warn")
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(unix.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("lockerd with a policy: %v", err)
		}
	})
	run := func(args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(s.bin, "locker"), args...)
		c.Env = append(os.Environ(), "LOCKER_SOCKET="+socket)
		c.SysProcAttr = &unix.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		return c
	}
	s.until("lockerd with a policy serves", func() bool { return run("status").Run() == nil })
	return run
}

// A Mac that writes bands while its server has no token open, as after a restart of the server.
func TestABundleInWhichAMacIsWritingBandsIsHadOnlyWhenItHasPaused(t *testing.T) {
	needSamba(t)
	const quiet = 6 * time.Second
	s := newSite(t)
	locker := s.asksForQuiet(quiet.String())
	m := startSmbd(t, s.dir, settings[2]).dial(t)
	last := ""
	writes := 0
	write := func() {
		t.Helper()
		writes++
		last = fmt.Sprintf("generation-%05d", writes)
		_, band := m.asks("open mac.sparsebundle/bands/0 rw rw")
		if status, _ := m.asks("write %s %s", band, last); status != "OK" {
			t.Fatalf("write: %s", status)
		}
		m.asks("close %s", band)
	}
	// Whatever the machine is busy with: it is written until what must be seen while it was written just now has been seen.
	said := ""
	defer func() {
		if t.Failed() {
			t.Logf("it was refused at last with: %s", said)
		}
	}()
	s.until("it is refused for want of quiet", func() bool {
		write()
		out, err := locker("lock", "-n", s.bundle()).CombinedOutput()
		if err == nil {
			s.do(locker("unlock", s.bundle()))
			return false
		}
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 120 {
			t.Fatalf("locker lock -n: %v\n%s", err, out)
		}
		said = string(out) // else that the token is open, of a lock that was just given back
		return strings.Contains(said, "s ago; the rule asks for 6 s of quiet")
	})
	waits := locker("lock", s.bundle())
	must(t, waits.Start())
	for range 2 { // the second time is written while it waits
		s.until("it waits", func() bool {
			write()
			return strings.Contains(s.do(locker("list")), "the rule asks for 6 s of quiet")
		})
	}
	must(t, waits.Wait())
	had := time.Now()
	var st unix.Stat_t
	must(t, unix.Stat(s.band(0), &st))
	if since := had.Sub(time.Unix(st.Ctim.Unix())); since < quiet {
		t.Errorf("had %v after the band was written", since)
	}
	if text, err := os.ReadFile(s.band(0)); err != nil || string(text) != last {
		t.Errorf("%q %v, want %q", text, err, last)
	}
}
