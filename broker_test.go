package locker_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"locker/guard"
)

// The scripts of testdata/script run the real lockerd and the real locker, as whoever runs the tests; those that need root, a
// second user or a mount say so. Their own commands are in commands_test.go and daemons_test.go, the programs that they run
// beside ours in players_test.go. Each script has
//
//	$LOCKER_SOCKET  a socket that nobody listens on yet, by a path short enough for unix(7)
//	$STATE          a state directory that is not there yet
//	$ETC            a place for policy files
//	$ME             our uid
//	$ALICE, $BOB    uids that nobody has
//	$REPO           the top of the tree
//	$LONG           257 bytes; $TOOLONG is a path of 4,096
//
// and nothing of theirs is in /etc, /run or /var/lib.
func TestScripts(t *testing.T) {
	h := newHouse(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		WorkdirRoot:         h.work,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               h.setUp,
		Condition:           h.condition,
		Cmds:                scriptCommands(),
	})
}

// patience is how long a test waits for what must come; only a failing one needs it.
const patience = time.Minute

// house is what all scripts of a test share.
type house struct {
	work, bin string
	etc       string // "": there is no place for a policy
	etcReason string
	repo      string
	python    string
	alice     int
}

func newHouse(t *testing.T) *house {
	t.Helper()
	repo, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	top := openDir(t, t.TempDir())
	h := &house{work: filepath.Join(top, "w"), bin: filepath.Join(top, "bin"), repo: repo, alice: freeUID(t), python: pythonForAll()}
	for _, dir := range []string{h.work, h.bin} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		openDir(t, dir)
	}
	h.build(t)
	h.installPlayers(t)
	h.etc, h.etcReason = policyPlace(t)
	return h
}

// openDir lets other users through to dir, whatever the umask.
func openDir(t *testing.T, dir string) string {
	t.Helper()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if info, err := os.Stat(d); err == nil && info.Mode().Perm()&0o005 != 0o005 {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// newerVersion is what lockerd-newer says that it is: the same program of another version.
const newerVersion = "9.9.9"

// build puts locker, lockerd and lockerd-newer into h.bin. LOCKER_TEST_BIN names a directory with built ones, for a test binary that was
// carried to where there is no Go.
func (h *house) build(t *testing.T) {
	t.Helper()
	programs := []string{"locker", "lockerd", "lockerd-newer"}
	if built := os.Getenv("LOCKER_TEST_BIN"); built != "" {
		for _, name := range programs {
			copyProgram(t, filepath.Join(built, name), filepath.Join(h.bin, name))
		}
		return
	}
	for _, args := range [][]string{
		{"-o", h.bin + "/", "./cmd/locker", "./cmd/lockerd"},
		{"-ldflags", "-X main.version=" + newerVersion, "-o", filepath.Join(h.bin, "lockerd-newer"), "./cmd/lockerd"},
	} {
		cmd := exec.Command("go", append([]string{"build"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	for _, name := range programs {
		if err := os.Chmod(filepath.Join(h.bin, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(0o755), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// policyPlace makes a directory for policies. lockerd takes no policy from below a directory that others can write, such
// as /tmp; so it is in bin, which git ignores, or in our home.
func policyPlace(t *testing.T) (dir, reason string) {
	t.Helper()
	if abs, err := filepath.Abs("bin"); err == nil && trusted(filepath.Dir(abs)) {
		os.Mkdir(abs, 0o755)
	}
	for _, place := range []string{"bin", os.Getenv("HOME"), os.Getenv("XDG_RUNTIME_DIR")} {
		abs, err := filepath.Abs(place)
		if place == "" || err != nil || !trusted(abs) {
			continue
		}
		dir, err := os.MkdirTemp(abs, ".locker-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir, ""
	}
	return "", "needs a place for a policy: neither this tree, $HOME nor $XDG_RUNTIME_DIR is writable by us and root alone, all the way from /"
}

// trusted reports whether nobody but root and us can write to dir and above it.
func trusted(dir string) bool {
	for {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return false
		}
		if dir == "/" {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// freeUID gives a uid such that it and the next one are nobody's.
func freeUID(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	for uid := 54321; ; uid += 2 {
		if !strings.Contains(string(text), fmt.Sprintf(":%d:", uid)) && !strings.Contains(string(text), fmt.Sprintf(":%d:", uid+1)) {
			return uid
		}
	}
}

// pythonForAll gives a python3 that other users can run too, if there is one: a version manager's is in somebody's home.
func pythonForAll() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	path, _ := exec.LookPath("python3")
	return path
}

// setUp prepares one script.
func (h *house) setUp(e *testscript.Env) error {
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		return err
	}
	stage := &stage{dir: dir, daemons: map[string]*daemon{}}
	e.Values["stage"] = stage
	e.Defer(stage.clear)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	etc := ""
	if h.etc != "" {
		if etc, err = os.MkdirTemp(h.etc, ""); err != nil {
			return err
		}
	}
	home := filepath.Join(e.WorkDir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"PATH": h.bin + ":" + e.Getenv("PATH"), "HOME": home, "XDG_STATE_HOME": "", "LANG": "C.UTF-8", "TZ": noonZone(time.Now()), "TERM": "dumb",
		"LOCKER_SOCKET": filepath.Join(dir, "s"), "SOCKETS": dir, "STATE": filepath.Join(e.WorkDir, "state"), "ETC": etc,
		"ME": strconv.Itoa(os.Geteuid()), "ALICE": strconv.Itoa(h.alice), "BOB": strconv.Itoa(h.alice + 1), "REPO": h.repo, "PYTHON": h.python,
		"LONG": strings.Repeat("x", 257), "TOOLONG": "/" + strings.Repeat("x/", 2047) + "x",
	} {
		e.Setenv(name, value)
		stage.names = append(stage.names, name)
	}
	stage.names = append(stage.names, "WORK", "GOCOVERDIR", "GORACE")
	return nil
}

// condition knows [root], [policy], [mounts], [guard] and [python]. Under LOCKER_TEST_ALL one that is not met is an error.
func (h *house) condition(name string) (met bool, err error) {
	why := ""
	switch name {
	case "root":
		met, why = os.Geteuid() == 0, "is for root"
	case "policy":
		met, why = h.etc != "", h.etcReason
	case "python":
		met, why = h.python != "", "needs python3"
	case "mounts":
		met, why = os.Geteuid() == 0 && exec.Command(filepath.Join(h.bin, "private"), "/mnt", "--", "true").Run() == nil, "is for root with mounts of its own"
	case "guard":
		if err := guard.Available(); err != nil {
			why = "needs a guard: " + err.Error()
		}
		met = why == ""
	default:
		return false, fmt.Errorf("unknown condition %q", name)
	}
	if !met && os.Getenv("LOCKER_TEST_ALL") != "" {
		return false, fmt.Errorf("LOCKER_TEST_ALL is set, and this script %s", why)
	}
	return met, nil
}
