package flock

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv(outsiderEnv) != "" {
		outsiderMain()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// needRoot skips what an ordinary user cannot arrange, unless everything was asked for.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		t.Fatal("needs root, and LOCKER_TEST_ALL is set")
	}
	t.Skip("needs root: run the tests as root as well")
}

// runsAsOrdinaryUser runs this test in a process of an ordinary user when we are root, to whom its law does not apply, and
// reports whether it did.
func runsAsOrdinaryUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return false
	}
	binary := publicDir(t) + "/flock.test" // our own lies where only we get to
	text, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(binary, text, 0o755))
	must(t, os.Chmod(binary, 0o755))
	cmd := exec.Command(binary, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("as uid 65533: %v\n%s", err, out)
	}
	return true
}

// must is for what a test sets up.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// publicDir is a temporary directory that other users can search.
func publicDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chmod(dir+"/..", 0o755))
	return dir
}

func newFile(t testing.TB, path string) string {
	t.Helper()
	must(t, os.WriteFile(path, []byte("content"), 0o644))
	return path
}

func newOpener(t testing.TB, allow ...string) *Opener {
	t.Helper()
	o, _, err := NewOpener(allow)
	must(t, err)
	return o
}

// open opens for an exclusive lock with both engines, and closes when the test ends.
func open(t testing.TB, o *Opener, path string) *File {
	t.Helper()
	return openAs(t, o, path, Want{Mode: Exclusive})
}

func openAs(t testing.TB, o *Opener, path string, w Want) *File {
	t.Helper()
	f, err := o.Open(path, w)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// descriptors are the numbers of those open now, the one that looks excepted.
func descriptors(t testing.TB) map[int]string {
	t.Helper()
	dir, err := os.Open("/proc/self/fd")
	must(t, err)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	must(t, err)
	open := make(map[int]string)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		must(t, err)
		if fd != int(dir.Fd()) {
			open[fd], _ = os.Readlink("/proc/self/fd/" + name)
		}
	}
	return open
}

// sameDescriptors fails unless those of before are open, and no others.
func sameDescriptors(t testing.TB, before map[int]string) {
	t.Helper()
	after := descriptors(t)
	for fd, what := range after {
		if _, ok := before[fd]; !ok {
			t.Errorf("descriptor %d (%s) was left open", fd, what)
		}
	}
	for fd, what := range before {
		if _, ok := after[fd]; !ok {
			t.Errorf("descriptor %d (%s) was closed, and is not ours", fd, what)
		}
	}
}

// eventually polls: for what another process or goroutine does in its own time. A minute is a hang, not a measurement.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// aged waits until nobody can think that the inode was changed just now.
func aged(t testing.TB, path string) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	eventually(t, "the file's ctime is old", func() bool {
		return time.Since(time.Unix(st.Ctim.Unix())) > ctimeSlack+100*time.Millisecond
	})
}

func wantError(t testing.TB, err, want error, doing string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", doing, err, want)
	}
}
