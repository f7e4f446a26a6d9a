package keeper

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// short is a temporary directory with a name that fits into the address of a socket, for what binds by the plain name.
func short(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestTheSocketIsOursAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(dir, "keeper.sock")
	l, err := Listen(path)
	must(t, err)
	defer l.Close()
	for name, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, path: os.ModeSocket | 0o600, path + lockSuffix: 0o600} {
		st, err := os.Lstat(name)
		if err != nil || st.Mode() != want {
			t.Errorf("%s: %v %v, want %v", name, st, err, want)
		}
	}
	if names, _ := os.ReadDir(dir); len(names) != 2 {
		t.Errorf("in the directory are %v", names)
	}
}

func TestAnOldSocketIsReplaced(t *testing.T) {
	leaksNothing(t, "replace", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keeper.sock")
		startChild(t, "keeper", path).kill()
		if _, err := Dial(t.Context(), path); err == nil {
			t.Error("dialed a keeper that is dead")
		}
		must(t, os.WriteFile(path+newSuffix, nil, 0o600)) // left by one that was killed between bind and rename
		l, err := Listen(path)
		must(t, err)
		defer l.Close()
		dialKeeper(t, path)
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("another keeper listens at the same place: %v", err)
		}
		dialKeeper(t, path)
	})
}

func TestWhatIsNoSocketOfAKeeperStays(t *testing.T) {
	for _, there := range []struct {
		name string
		put  func(path string) error
	}{
		{"a file", func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) }},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a link", func(path string) error { return os.Symlink("elsewhere", path) }},
		{"a link in the place of the lock", func(path string) error { return os.Symlink("elsewhere", path+lockSuffix) }},
		{"a directory under the first name", func(path string) error { return os.Mkdir(path+newSuffix, 0o700) }},
		{"somebody's stream socket", func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}},
	} {
		dir := short(t)
		path := filepath.Join(dir, "keeper.sock")
		must(t, there.put(path))
		before, _ := os.ReadDir(dir)
		if l, err := Listen(path); err == nil {
			l.Close()
			t.Errorf("%s was replaced", there.name)
		}
		after, _ := os.ReadDir(dir)
		for _, was := range before {
			if !strings.Contains(fmt.Sprint(after), fmt.Sprint(was)) {
				t.Errorf("%s: %v was there, and now %v is", there.name, before, after)
			}
		}
		if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
			t.Errorf("%s was followed", there.name)
		}
	}
}

func TestADirectoryThatOthersWriteIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o777 | os.ModeSticky, 0o770, 0o702} {
		dir := t.TempDir()
		must(t, os.Chmod(dir, mode))
		if l, err := Listen(filepath.Join(dir, "keeper.sock")); err == nil {
			l.Close()
			t.Errorf("listens in a directory of mode %v", mode)
		}
	}
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		must(t, os.Chown(dir, 65533, -1))
		if l, err := Listen(filepath.Join(dir, "keeper.sock")); err == nil {
			l.Close()
			t.Error("listens in a stranger's directory")
		}
	}
}

// The address of a socket has room for 107 bytes.
func TestThePathMayHaveAnyLength(t *testing.T) {
	dir := t.TempDir()
	for range 10 {
		dir = filepath.Join(dir, strings.Repeat("d", 200))
		must(t, os.Mkdir(dir, 0o700))
	}
	path := filepath.Join(dir, "keeper.sock")
	l, err := Listen(path)
	must(t, err)
	defer l.Close()
	dialKeeper(t, path)
	t.Chdir(dir)
	dialKeeper(t, "keeper.sock")
}

func TestAStrangerIsSentAway(t *testing.T) {
	needRoot(t, "a stranger")
	leaksNothing(t, "stranger", func(t *testing.T) {
		r := newRig(t).serve()
		for name, mode := range map[string]os.FileMode{r.path: 0o777, filepath.Dir(r.path): 0o755, filepath.Dir(filepath.Dir(r.path)): 0o755} {
			must(t, os.Chmod(name, mode))
		}
		var conn *net.UnixConn
		as(t, 65533, func() { conn = r.stranger() })
		sendRaw(t, conn, appendMessage(nil, &message{kind: kindPut, set: withLock, id: 1}), file(t, 5)) // or it is too late already
		if err := endsAtOnce(conn); err != nil {
			t.Error(err)
		}
		must(t, conn.Close())
		wantList(t, r.dial())
		if w := r.warned(); !strings.Contains(w, "stranger") || !strings.Contains(w, "65533") {
			t.Errorf("warned %q", w)
		}
		r.stop()
	})
}

// Else anybody who may put a socket there would be given every lock.
func TestAStrangersKeeperIsNotDialed(t *testing.T) {
	needRoot(t, "a stranger")
	listenAs := func(dir string, mode os.FileMode) string {
		must(t, os.Chown(dir, 65533, -1))
		must(t, os.Chmod(dir, mode))
		path := filepath.Join(dir, "keeper.sock")
		as(t, 65533, func() {
			l, err := net.Listen("unixpacket", path)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { l.Close() })
		})
		return path
	}
	refused := func(path, why string) {
		t.Helper()
		c, err := Dial(t.Context(), path)
		if err == nil {
			c.Close()
			t.Errorf("dialed %s", why)
		} else if !strings.Contains(err.Error(), "65533") {
			t.Error(err)
		}
	}
	refused(listenAs(short(t), 0o755), "a stranger's socket below a directory that everybody writes")

	// A keeper with a uid of its own: the directory is its, and those above are root's.
	const run = "/run"
	if d, _, err := openDir(run); err != nil || !onlyOwnerWrites(d) {
		t.Skipf("others write to %s: %v", run, err)
	}
	dir, err := os.MkdirTemp(run, "keeper-test")
	must(t, err)
	defer os.RemoveAll(dir)
	path := listenAs(dir, 0o755)
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Errorf("a keeper with a uid of its own: %v", err)
	} else {
		c.Close()
	}
	must(t, os.Chmod(dir, 0o775))
	refused(path, "a socket where a group writes")
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Chown(dir, 65532, -1))
	refused(path, "a socket in another stranger's directory")
}
