package fileservers

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
	server int // pid of its lockerd

	guarded bool // that has a guard
}

// bands is how many a bundle has here; a real one has thousands, which are not locked one by one.
const bands = 8

// newSite makes one. The programs are what lockerd's guard is to keep out; without any, there is no guard.
func newSite(t *testing.T, programs ...string) *site {
	t.Helper()
	top := t.TempDir()
	bin, err := built()
	must(t, err)
	s := &site{t: t, dir: filepath.Join(top, "share"), bin: bin, socket: filepath.Join(top, "s")}
	for _, d := range []string{filepath.Dir(top), top} {
		if err := os.Chmod(d, 0o755); err != nil { // smbd goes in as nobody
			t.Fatal(err)
		}
	}
	must(t, os.MkdirAll(filepath.Join(s.bundle(), "bands"), 0o755))
	s.fill()
	must(t, filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	}))
	s.serve(programs)
	return s
}

// fill gives all files of the bundle their first content, in place.
func (s *site) fill() {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(s.bundle(), "Info.plist"), []byte("<plist/>"), 0o644))
	must(s.t, os.WriteFile(filepath.Join(s.bundle(), "token"), []byte("0123456789abcdef"), 0o644))
	for i := range bands {
		must(s.t, os.WriteFile(s.band(i), []byte("generation 00000"), 0o644))
	}
}

// binDir is TestMain's, for locker and lockerd.
var binDir string

func TestMain(m *testing.M) {
	var err error
	if binDir, err = os.MkdirTemp("", "fileservers"); err != nil {
		panic(err)
	}
	if err := os.Chmod(binDir, 0o755); err != nil { // others run locker from there, too
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(binDir)
	os.Exit(status)
}

// built gives the directory of locker and lockerd.
var built = sync.OnceValues(func() (string, error) {
	build := exec.Command("go", "build", "-o", binDir+"/", "locker/cmd/locker", "locker/cmd/lockerd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return binDir, nil
})

const nobody = 65534

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) bundle() string    { return filepath.Join(s.dir, "mac.sparsebundle") }
func (s *site) band(i int) string { return filepath.Join(s.bundle(), "bands", fmt.Sprintf("%x", i)) }

func (s *site) serve(programs []string) {
	s.t.Helper()
	own, err := os.MkdirTemp("/root", "fileservers-") // above a root's policy nobody else may write
	must(s.t, err)
	s.t.Cleanup(func() { os.RemoveAll(own) })
	policy := fmt.Sprintf("allow = [%q]\n", s.dir)
	for i, p := range programs {
		programs[i] = fmt.Sprintf("%q", p)
	}
	if len(programs) > 0 {
		policy += "[guard]\ndeny = [" + strings.Join(programs, ", ") + "]\n"
	}
	policy += fmt.Sprintf("[[rule]]\nname = \"root\"\nusers = [0]\npaths = [%q]\ncan = [\"lock\", \"list\"]\n", s.dir)
	must(s.t, os.WriteFile(filepath.Join(own, "locker.toml"), []byte(policy), 0o644))
	cmd := exec.Command(filepath.Join(s.bin, "lockerd"), "--socket", s.socket, "--config", filepath.Join(own, "locker.toml"),
		"--state-dir", filepath.Join(filepath.Dir(s.dir), "state"), "--log-level", "error")
	cmd.Stderr = os.Stderr
	must(s.t, cmd.Start())
	s.server, s.guarded = cmd.Process.Pid, len(programs) > 0
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
