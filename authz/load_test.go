package authz

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// policyTree is top/etc/locker/p.toml in a directory of the test's own. top takes
// the place of "/", since a temporary directory lies below a sticky one.
func policyTree(t *testing.T) (top, file string) {
	t.Helper()
	top = t.TempDir()
	dir := filepath.Join(top, "etc/locker")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := dir; len(d) >= len(top); d = filepath.Dir(d) {
		chmod(t, d, 0o755)
	}
	file = filepath.Join(dir, "p.toml")
	if err := os.WriteFile(file, []byte(head), 0o600); err != nil {
		t.Fatal(err)
	}
	return top, file
}

func chmod(t *testing.T, name string, mode uint32) {
	t.Helper()
	if err := unix.Chmod(name, mode); err != nil { // os.Chmod would drop the sticky bit
		t.Fatal(err)
	}
}

// readsAs reads as readTrusted does for a lockerd of this euid.
func readsAs(file, top string, euid int) error {
	_, err := readTrusted(file, top, uint32(euid))
	return err
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: refused: %v", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got %v, want %q", what, err, want)
	}
}

func TestPolicyFileThatOthersCanWriteIsRefused(t *testing.T) {
	for _, c := range []struct {
		what string // of the tree
		mode uint32
		want string
	}{
		{"etc/locker/p.toml", 0o600, ""},
		{"etc/locker/p.toml", 0o644, ""},
		{"etc/locker/p.toml", 0o664, "has mode 0664: nobody but its owner may write there"},
		{"etc/locker/p.toml", 0o620, "has mode 0620"},
		{"etc/locker/p.toml", 0o602, "has mode 0602"},
		{"etc/locker/p.toml", 0o666, "has mode 0666"},
		{"etc/locker", 0o700, ""},
		{"etc/locker", 0o775, "etc/locker has mode 0775"},
		{"etc/locker", 0o757, "etc/locker has mode 0757"},
		{"etc/locker", 0o1777, "etc/locker has mode 1777"},
		{"etc/locker", 0o2755, ""},
		{"etc", 0o777, "etc has mode 0777"},
		{"etc", 0o1777, "etc has mode 1777"},
		{"etc", 0o720, "etc has mode 0720"},
		{"", 0o777, "has mode 0777"},
	} {
		top, file := policyTree(t)
		chmod(t, filepath.Join(top, c.what), c.mode)
		wantError(t, fmt.Sprintf("%s %04o", c.what, c.mode), readsAs(file, top, os.Geteuid()), c.want)
	}
}

func TestPolicyFileOfSomebodyElseIsRefused(t *testing.T) {
	top, file := policyTree(t)
	if me := os.Geteuid(); me != 0 {
		wantError(t, "own file", readsAs(file, top, me), "")
		wantError(t, "own file for another lockerd", readsAs(file, top, me+1), fmt.Sprintf("belongs to uid %d: it must belong to root or uid %d", me, me+1))
		wantError(t, "own file for root's lockerd", readsAs(file, top, 0), fmt.Sprintf("belongs to uid %d: it must belong to root", me))
	}
	needRoot(t, "chown to another user")
	for _, what := range []string{"etc/locker/p.toml", "etc/locker", "etc", ""} {
		for owner, wants := range map[int]map[int]string{
			0:    {0: "", 1000: ""},
			1000: {0: "belongs to uid 1000: it must belong to root", 1000: "", 1001: "belongs to uid 1000: it must belong to root or uid 1001"},
		} {
			for euid, want := range wants {
				top, file := policyTree(t)
				// The group does not matter as long as it may not write.
				if err := os.Chown(filepath.Join(top, what), owner, 1234); err != nil {
					t.Fatal(err)
				}
				wantError(t, fmt.Sprintf("%q of %d, lockerd %d", what, owner, euid), readsAs(file, top, euid), want)
			}
		}
	}
}

func TestPolicyFileBehindALinkOrOfAnotherKindIsRefused(t *testing.T) {
	link := func(old, new string) func(string) error {
		return func(top string) error { return os.Symlink(old, filepath.Join(top, new)) }
	}
	for _, c := range []struct {
		name string
		make func(top string) error
		want string
	}{
		{"etc/locker/link.toml", link("p.toml", "etc/locker/link.toml"), "link.toml is a symbolic link: give the real path"},
		{"etc/locker/dangling.toml", link("nothing", "etc/locker/dangling.toml"), "dangling.toml is a symbolic link"},
		{"etc/alias/p.toml", link("locker", "etc/alias"), "etc/alias is a symbolic link"},
		{"conf/locker/p.toml", link("etc", "conf"), "conf is a symbolic link"},
		{"etc/locker/fifo", func(top string) error { return unix.Mkfifo(filepath.Join(top, "etc/locker/fifo"), 0o600) }, "fifo is no regular file"},
		{"etc/locker", func(string) error { return nil }, "etc/locker is no regular file"},
		{"etc/locker/none.toml", func(string) error { return nil }, "no such file"},
		{"etc/none/p.toml", func(string) error { return nil }, "no such file"},
		{"etc/locker/p.toml/x", func(string) error { return nil }, "not a directory"},
		{"etc/locker/sock", func(top string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			old, err := os.Getwd() // the path may be too long for an address
			if err != nil {
				return err
			}
			defer os.Chdir(old)
			if err := os.Chdir(filepath.Join(top, "etc/locker")); err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrUnix{Name: "sock"})
		}, "no such device"},
		{"etc/../etc/locker/p.toml", func(string) error { return nil }, ""},
		{"../p.toml", func(string) error { return nil }, "no file below"},
		{"", func(string) error { return nil }, "no file below"},
	} {
		top, _ := policyTree(t)
		if err := c.make(top); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- readsAs(filepath.Join(top, c.name), top, os.Geteuid()) }()
		select {
		case err := <-done:
			wantError(t, c.name, err, c.want)
		case <-time.After(time.Minute):
			t.Fatalf("%s: hangs", c.name)
		}
	}
}

func TestPolicyFileThatIsTooLargeIsRefused(t *testing.T) {
	top, file := policyTree(t)
	for size, want := range map[int]string{maxFile: "", maxFile + 1: "larger than 1048576 bytes", maxFile + 1<<20: "larger than 1048576 bytes"} {
		text := head + strings.Repeat("#", size-len(head))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		read, err := readTrusted(file, top, uint32(os.Geteuid()))
		if err != nil {
			t.Fatal(err)
		}
		if len(read) > maxFile+1 {
			t.Errorf("%d bytes are read", len(read))
		}
		_, err = Parse(file, read, testUsers())
		wantError(t, fmt.Sprint(size, " bytes"), err, want)
	}
}

func TestLoadRefusesWhatLiesInASharedDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.toml")
	if err := os.WriteFile(file, []byte(head), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(os.TempDir(), &st); err != nil || st.Mode&0o002 == 0 {
		t.Skip("the temporary directory is not shared")
	}
	_, err := Load(file, testUsers())
	wantError(t, "below "+os.TempDir(), err, "has mode 1777")
}

func TestLoadReadsAPolicyOfRoot(t *testing.T) {
	needRoot(t, "a directory whose parents are all root's")
	dir, err := os.MkdirTemp("/root", "authz-test-")
	if err != nil {
		t.Skipf("no place whose parents nobody else can write to: %v", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "p.toml")
	if err := os.WriteFile(file, []byte(richPolicies["sample"]), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Load(file, testUsers())
	if err != nil {
		t.Fatal(err)
	}
	if p.File != file || p.RuleCount() != 3 {
		t.Errorf("%+v", p)
	}
	t.Chdir(dir)
	if p, err = Load("p.toml", testUsers()); err != nil || p.File != "p.toml" {
		t.Errorf("relative: %v", err)
	}
}

func TestLoadLeaksNoDescriptor(t *testing.T) {
	top, file := policyTree(t)
	if err := os.Symlink("p.toml", filepath.Join(top, "etc/locker/l")); err != nil {
		t.Fatal(err)
	}
	before := openDescriptors(t)
	for range 50 {
		for _, f := range []string{file, filepath.Join(top, "etc/locker/l"), filepath.Join(top, "etc/none/x"), filepath.Join(top, "etc/locker"), top + "/.."} {
			readsAs(f, top, os.Geteuid())
		}
		readsAs(file, top, 4321)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
