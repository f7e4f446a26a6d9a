package torture

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// stage is where a run takes place: its files, and how its programs are started.
type stage struct {
	dir      string // of everything but the state; kept if the run fails
	state    string
	lockerd  string
	policy   string // "": there is no place for one, so lockerd runs without
	bug      string // seeded in broker and keeper
	listener *os.File
	socket   string
	keeper   string // its socket
}

// buildLockerd builds the lockerd that can kill itself and has seeded bugs. It does nothing of that unless told by the environment.
func buildLockerd(t *testing.T) string {
	t.Helper()
	if built := os.Getenv("LOCKER_TORTURE_LOCKERD"); built != "" {
		return built
	}
	bin := filepath.Join(t.TempDir(), "lockerd")
	cmd := exec.Command("go", "build", "-tags", "torture", "-o", bin, "locker/cmd/lockerd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// newStage makes the places. What is written most is in memory, if there is a file system for that.
func newStage(t *testing.T, lockerd string) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "lt") // short: sockets go there
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{dir: dir, state: filepath.Join(dir, "state"), lockerd: lockerd, socket: filepath.Join(dir, "s"), keeper: filepath.Join(dir, "k", "keeper.sock")}
	if fast := memoryFileSystem(); fast != "" {
		if s.state, err = os.MkdirTemp(fast, "locker-torture-"); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if s.listener, err = l.File(); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.MkdirAll(s.state, 0o755), os.Mkdir(filepath.Join(dir, "k"), 0o700), os.Mkdir(s.files(), 0o755))
	for f := range files + quiet {
		err = errors.Join(err, os.WriteFile(filepath.Join(s.files(), fileName(f)), nil, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.writePolicy(t)
	t.Cleanup(func() {
		s.listener.Close()
		if !t.Failed() {
			s.remove()
		}
	})
	return s
}

func (s *stage) files() string { return filepath.Join(s.dir, "files") }
func (s *stage) audit() string { return filepath.Join(s.state, "audit") }

func (s *stage) remove() {
	os.RemoveAll(s.dir)
	os.RemoveAll(s.state)
}

// memoryFileSystem gives a directory in memory with some room, or "".
func memoryFileSystem() string {
	const dir, enough = "/dev/shm", 256 << 20 // bytes
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Type != unix.TMPFS_MAGIC || st.Bavail*uint64(st.Bsize) < enough || unix.Access(dir, unix.W_OK) != nil {
		return ""
	}
	return dir
}

// writePolicy writes a policy with small segments, since each start begins a new one, and without narrow limits. lockerd takes none from
// below a directory that others can write, such as /tmp.
func (s *stage) writePolicy(t *testing.T) {
	place := policyPlace()
	if place == "" {
		t.Log("no place for a policy: lockerd runs without one, with large segments")
		return
	}
	dir, err := os.MkdirTemp(place, ".locker-torture-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text := fmt.Sprintf(`allow = [%q]
[server]
socket = %q
state_dir = %q
[audit]
segment_size = "128KiB"
[limits]
connections = 2000
connections_early = 200
holds = 20000
waiters = 16000
opens = 30
[[rule]]
name = "torture"
users = [%d]
paths = [%q]
max_hold = "12h"
can = ["lock", "lock-shared", "list"]
`, s.files(), s.socket, s.state, os.Geteuid(), s.files())
	s.policy = filepath.Join(dir, "locker.toml")
	if err := os.WriteFile(s.policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// policyPlace gives a directory that nobody but root and us can write, all the way from /.
func policyPlace() string {
	bin, err := filepath.Abs("../bin") // git ignores it
	if err == nil && ours(filepath.Dir(bin)) {
		os.Mkdir(bin, 0o755)
	}
	for _, dir := range []string{bin, os.Getenv("HOME"), os.Getenv("XDG_RUNTIME_DIR")} {
		if filepath.IsAbs(dir) && ours(dir) && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	return ""
}

func ours(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// command gives the command line of a broker or a keeper.
func (s *stage) command(who role) []string {
	if who == keeperRole {
		return []string{s.lockerd, "keeper", "--keeper", s.keeper, "--log-level", "warn"}
	}
	// The service manager's promise is for one process: sd_listen_fds(3). exec keeps the shell's pid.
	args := []string{"/bin/sh", "-c", `export LISTEN_PID=$$; exec "$@"`, "sh", s.lockerd, "broker", "--keeper", s.keeper, "--state-dir", s.state, "--log-level", "warn"}
	if s.policy != "" {
		return append(args, "--config", s.policy)
	}
	return append(args, "--allow", s.files())
}
