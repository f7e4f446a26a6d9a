package fileservers

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// site is a directory that is served and backed up, and a lockerd for it.
type site struct {
	t      *testing.T
	dir    string // has the bundle
	bin    string
	socket string
}

// bands is how many a bundle has here; a real one has thousands, which are not locked one by one.
const bands = 8

func newSite(t *testing.T) *site {
	t.Helper()
	top := t.TempDir()
	s := &site{t: t, dir: filepath.Join(top, "share"), bin: filepath.Join(top, "bin"), socket: filepath.Join(top, "s")}
	for _, d := range []string{filepath.Dir(top), top} {
		if err := os.Chmod(d, 0o755); err != nil { // smbd goes in as nobody
			t.Fatal(err)
		}
	}
	must(t, os.MkdirAll(filepath.Join(s.bundle(), "bands"), 0o755))
	must(t, os.WriteFile(filepath.Join(s.bundle(), "Info.plist"), []byte("<plist/>"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.bundle(), "token"), []byte("0123456789abcdef"), 0o644))
	for i := range bands {
		must(t, os.WriteFile(s.band(i), []byte("generation 00000"), 0o644))
	}
	must(t, filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	}))
	build := exec.Command("go", "build", "-o", s.bin+"/", "locker/cmd/locker", "locker/cmd/lockerd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	s.serve()
	return s
}

const nobody = 65534

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) bundle() string    { return filepath.Join(s.dir, "mac.sparsebundle") }
func (s *site) band(i int) string { return filepath.Join(s.bundle(), "bands", fmt.Sprintf("%x", i)) }

func (s *site) serve() {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, "lockerd"), "--socket", s.socket, "--allow", s.dir, "--state-dir", filepath.Join(filepath.Dir(s.dir), "state"), "--log-level", "warn")
	cmd.Stderr = os.Stderr
	must(s.t, cmd.Start())
	s.t.Cleanup(func() {
		cmd.Process.Signal(unix.SIGINT)
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("lockerd: %v", err)
		}
	})
	s.until("lockerd serves", func() bool { return s.locker("status").Run() == nil })
}

// until waits for something.
func (s *site) until(what string, is func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			s.t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// locker is a command of the user's program, root's here.
func (s *site) locker(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, "locker"), args...)
	cmd.Env = append(os.Environ(), "LOCKER_SOCKET="+s.socket)
	return cmd
}

// do runs a command that must succeed.
func (s *site) do(cmd *exec.Cmd) string {
	s.t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// sum is of the names and contents of a tree.
func sum(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(h, "%q %q\n", strings.TrimPrefix(path, dir), data)
		return err
	}))
	return fmt.Sprintf("%x", h.Sum(nil))
}
