package guard

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func allNeeded() (names []string) {
	for _, c := range needed {
		names = append(names, c.name)
	}
	return names
}

// The unit needs no more, and no less.
func TestAGuardNeedsExactlyTheCapabilitiesThatItNames(t *testing.T) {
	needGuard(t)
	dir := shortDir(t)
	socket := filepath.Join(dir, "guard.sock")
	startChild(t, "caps", strings.Join(allNeeded(), ","), "guard", socket, time.Minute.String(), "", "")
	// A user's server and a user's directory, for which root without capabilities is nobody.
	smbd := program(t, "fileserver")
	must(t, os.Chmod(filepath.Dir(smbd), 0o755))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(smbd)), 0o755))
	b := newBundle(t, 1)
	for _, path := range []string{filepath.Dir(b.band(0)), b.root} {
		must(t, os.Chown(path, 65533, 65533))
		must(t, os.Chmod(path, 0o700))
	}
	must(t, os.Chown(b.band(0), 65533, 65533))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(b.root)), 0o755))
	must(t, os.Chmod(filepath.Dir(b.root), 0o755))
	c := dialGuard(t, socket)
	must(t, c.Deny(soonContext(t), []string{smbd}))
	b.guard(c, 1)
	for _, role := range []string{"root", "user"} {
		server := startAs(t, smbd, "opener")
		if role == "user" {
			server = startUser(t, smbd)
		}
		server.want(refused, "read", b.band(0))
	}
	lift(t, c, 1)
}

// startUser is an opener of an ordinary user's.
func startUser(t testing.TB, exe string) *child {
	t.Helper()
	return start(t, exec.Command(exe), "opener", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}})
}

func TestAvailableSaysWhatIsMissing(t *testing.T) {
	needGuard(t)
	for _, missing := range needed {
		var have []string
		for _, name := range allNeeded() {
			if name != missing.name {
				have = append(have, name)
			}
		}
		cmd := exec.Command("/proc/self/exe", strings.Join(have, ","), "available")
		cmd.Env = append(os.Environ(), roleVariable+"=caps")
		in, err := cmd.StdinPipe()
		must(t, err)
		must(t, in.Close())
		out, err := cmd.CombinedOutput()
		must(t, err)
		said, _, _ := strings.Cut(string(out), "\n")
		if want := ErrUnavailable.Error() + ": this process lacks " + missing.name + ", " + missing.why; said != want {
			t.Errorf("without %s:\n got %s\nwant %s", missing.name, said, want)
		}
	}
}

// An ordinary user's guard serves, and says why it cannot guard.
func TestAnOrdinaryUserIsToldTheReason(t *testing.T) {
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		must(t, os.Chmod(dir, 0o755))
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		binary := filepath.Join(dir, "guard.test")
		install(t, "/proc/self/exe", binary)
		must(t, os.Chmod(binary, 0o755))
		cmd := exec.Command(binary, "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("as uid 65533: %v\n%s", err, out)
		}
		return
	}
	r := newRig(t).serve()
	c := r.dial()
	err := c.Deny(soonContext(t), []string{"/usr/sbin/smbd"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "lacks CAP_SYS_ADMIN") || strings.Count(err.Error(), ErrUnavailable.Error()) != 1 {
		t.Errorf("deny: %v", err)
	}
	if err := Available(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("available: %v", err)
	}
	b := newBundle(t, 1)
	fds := b.dirs()
	defer closeAll(fds)
	if err := c.Guard(soonContext(t), 1, fds); !errors.Is(err, errOrder) {
		t.Errorf("guard: %v", err)
	}
	must(t, c.Lift(soonContext(t), 1))
	must(t, c.Ping(soonContext(t)))
}
