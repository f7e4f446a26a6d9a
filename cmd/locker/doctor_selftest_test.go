package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onTmpfs gives a new directory on a tmpfs, which all Linux systems have at /dev/shm.
func onTmpfs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "locker-doctor-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || int64(fs.Type) != unix.TMPFS_MAGIC {
		t.Fatalf("/dev/shm is no tmpfs: %#x, %v", fs.Type, err)
	}
	return dir
}

func statOf(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestSelfTestTriesTheLocksAndLeavesNothingBehind(t *testing.T) {
	for name, scratch := range map[string]func(int) (int, string, error){"without a name": tmpfile, "with a name": named} {
		dir := onTmpfs(t)
		if err := os.WriteFile(dir+"/theirs", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		before, file := statOf(t, dir), statOf(t, dir+"/theirs")
		got := trySelf(dir, before, scratch)
		if after := statOf(t, dir); name == "without a name" && after != before {
			t.Errorf("%s: the directory was %+v and is %+v", name, before, after)
		}
		want := selfTest{
			dir: dir, done: true, separate: true, ofd: probe{outcome: outcomeExcludes}, flock: probe{outcome: outcomeExcludes},
			netatalk: probe{outcome: outcomeExcludes}, lease: probe{outcome: outcomeExcludes},
		}
		if got != want {
			t.Errorf("%s: %+v\nwant %+v", name, got, want)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
			t.Errorf("%s: left behind: %v, %v", name, names, err)
		}
		if after := statOf(t, dir+"/theirs"); after != file {
			t.Errorf("%s: the user's file was %+v and is %+v", name, file, after)
		}
	}
}

func TestSelfTestSeesThatALockIsGrantedTwice(t *testing.T) {
	a, err := os.CreateTemp(onTmpfs(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := unix.Dup(int(a.Fd())) // the same open file description: what one has the other has
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(b)
	var got selfTest
	got.fight(int(a.Fd()), b)
	if got.ofd.outcome != outcomeTwice || got.flock.outcome != outcomeTwice {
		t.Errorf("two copies of one descriptor: %+v", got)
	}
	r, err := os.Open(a.Name()) // no write lock without a writable descriptor
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got.fight(int(r.Fd()), int(a.Fd()))
	if got.ofd.outcome != outcomeFails || got.ofd.err != unix.EBADF {
		t.Errorf("a read-only descriptor: %+v", got.ofd)
	}
}

func TestUnwritableDirectoryIsSaidNotToBeTested(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		dir = "/proc/" + strconv.Itoa(os.Getpid()) // not even root makes a file there
	} else if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	got := trySelf(dir, statOf(t, dir), tmpfile)
	if got.done || got.why != "not done: the directory is not writable for us" {
		t.Errorf("%s: %+v", dir, got)
	}
	p := pathReport{kind: kindFile, engines: []string{"ofd", "flock"}, mount: &mount{fstype: "ext4"}, test: got}
	if w := p.worth(); w.ofd != keptYes {
		t.Errorf("untested on a local file system: %+v", w)
	}
	p.mount = &mount{fstype: "nfs4"}
	if w := p.worth(); w.ofd != keptUnknown {
		t.Errorf("untested on NFS: %+v", w)
	}
}

func TestExchangedDirectoryIsNotTested(t *testing.T) {
	dir := onTmpfs(t)
	if got := trySelf(dir, statOf(t, "/"), tmpfile); got.done || !strings.Contains(got.why, "exchanged") {
		t.Errorf("%+v", got)
	}
	if err := os.Symlink(".", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if got := trySelf(dir+"/link", statOf(t, dir), tmpfile); got.done {
		t.Errorf("through a link: %+v", got)
	}
}

func TestWhatCanBeLockedIsWhatLockerdWouldLock(t *testing.T) {
	dir := onTmpfs(t)
	make := func(name string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	make("file", 0o644)
	make("script", 0o755)
	make("a.sparsebundle/token", 0o755)
	make("empty.sparsebundle/x", 0o644)
	make("linked", 0o644)
	make("unnamed/token", 0o644)
	make("unnamed/Info.plist", 0o644)
	make("unnamed/bands/0", 0o644)
	make("plain/token", 0o644)
	if err := os.Link(dir+"/linked", dir+"/linked2"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path    string
		kind    kind
		target  string
		engines string
		worth   kept
		test    string // where the self-test was
		problem bool
	}{
		{"file", kindFile, "file", "ofd flock", keptYes, "", false},
		{"script", kindFile, "script", "flock", keptNo, "", false},
		{"linked", kindFile, "linked", "ofd flock", keptYes, "", false},
		{"fifo", kindOther, "fifo", "", keptNo, "", true},
		{"plain", kindDirectory, "plain", "flock", keptYes, "plain", false},
		{"unnamed", kindBundle, "unnamed/token", "ofd flock", keptYes, "", false},
		{"a.sparsebundle", kindBundle, "a.sparsebundle/token", "ofd flock", keptYes, "", false},
		{"a.sparsebundle/token", kindFile, "a.sparsebundle/token", "ofd flock", keptYes, "a.sparsebundle", false},
		{"empty.sparsebundle", kindBundle, "empty.sparsebundle/token", "", keptNo, "", true},
	}
	for _, tt := range tests {
		p, err := patientDoctor().lookAtPath(t.Context(), filepath.Join(dir, tt.path))
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		got := []any{p.kind, p.target, strings.Join(p.engines, " "), p.worth().ofd, p.test.dir, p.test.done, len(p.problems()) > 0}
		want := []any{tt.kind, filepath.Join(dir, tt.target), tt.engines, tt.worth, filepath.Join(dir, tt.test), true, tt.problem}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %v\nwant %v (%+v)", tt.path, got, want, p)
				break
			}
		}
		if p.mount.fstype != "tmpfs" || p.magic != unix.TMPFS_MAGIC {
			t.Errorf("%s: on %+v, f_type %#x", tt.path, p.mount, p.magic)
		}
	}
}
