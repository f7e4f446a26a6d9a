package flock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// writtenBundle is a bundle with its token open.
func writtenBundle(t testing.TB, bands int, more ...string) (o *Opener, f *File, bundle string) {
	t.Helper()
	base := publicDir(t)
	bundle = base + "/mac.sparsebundle"
	plant(t, base, append([]string{"dir mac.sparsebundle/bands", "file mac.sparsebundle/token", "file mac.sparsebundle/Info.plist"}, more...)...)
	for i := range bands {
		must(t, os.WriteFile(fmt.Sprintf("%s/bands/%x", bundle, i), nil, 0o644))
	}
	o = newOpener(t, base)
	f, err := o.Open(bundle, Want{Mode: Exclusive})
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return o, f, bundle
}

// changed gives the ctime of path.
func changed(t testing.TB, path string) time.Time {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return time.Unix(st.Ctim.Unix())
}

func written(t testing.TB, o *Opener, f *File) time.Time {
	t.Helper()
	at, err := o.Written(t.Context(), f)
	must(t, err)
	return at
}

// later has the clock of the file system tick, so that what is written next is newer than what is there.
func later(t testing.TB, dir string) {
	t.Helper()
	probe := filepath.Join(filepath.Dir(dir), "clock")
	must(t, os.WriteFile(probe, nil, 0o644))
	first := changed(t, probe)
	for end := time.Now().Add(10 * time.Second); !changed(t, probe).After(first); {
		if time.Now().After(end) {
			t.Fatal("the clock of the file system stands still")
		}
		must(t, os.Chmod(probe, 0o644))
	}
}

func TestWhateverIsDoneBelowABundleShowsInWhenItWasWritten(t *testing.T) {
	o, f, bundle := writtenBundle(t, 600, "file mac.sparsebundle/lock", "dir mac.sparsebundle/mapped", "file mac.sparsebundle/mapped/0", "file old")
	write := func(name string) func() error {
		return func() error { return os.WriteFile(bundle+"/"+name, []byte("x"), 0o644) }
	}
	for _, c := range []struct {
		name string
		do   func() error
		at   string
	}{
		{"the token", write("token"), "token"},
		{"the plist", write("Info.plist"), "Info.plist"},
		{"another file of it", write("lock"), "lock"},
		{"a band", write("bands/1ff"), "bands/1ff"},
		{"what is in mapped", write("mapped/0"), "mapped/0"},
		{"a new band", write("bands/258"), "bands/258"},
		{"a band removed", func() error { return os.Remove(bundle + "/bands/0") }, "bands"},
		{"a band renamed", func() error { return os.Rename(bundle+"/bands/1", bundle+"/bands/z") }, "bands/z"},
		{"an old file moved in", func() error { return os.Rename(filepath.Dir(bundle)+"/old", bundle+"/bands/old") }, "bands/old"},
		{"a plist renamed", func() error { return os.Rename(bundle+"/lock", bundle+"/lock2") }, "lock2"},
		{"a file of it removed", func() error { return os.Remove(bundle + "/lock2") }, "."},
		{"a band that is said to be old", func() error { return os.Chtimes(bundle+"/bands/2", time.Unix(1, 0), time.Unix(1, 0)) }, "bands/2"},
		{"a truncated band", func() error { return os.Truncate(bundle+"/bands/3", 99) }, "bands/3"},
	} {
		later(t, bundle)
		before := written(t, o, f)
		must(t, c.do())
		got, want := written(t, o, f), changed(t, bundle+"/"+c.at)
		// A rename changes its directory as well, a little later by the clock.
		if dir := changed(t, filepath.Dir(filepath.Join(bundle, c.at))); c.at != "." && dir.After(want) {
			want = dir
		}
		if !got.Equal(want) || !got.After(before) {
			t.Errorf("%s: written %v, want %v; before it %v", c.name, got, want, before)
		}
	}
}

func TestReadingABundleIsNotWritingIt(t *testing.T) {
	o, f, bundle := writtenBundle(t, 3)
	before := written(t, o, f)
	later(t, bundle)
	for i := range 3 {
		if _, err := os.ReadFile(fmt.Sprintf("%s/bands/%x", bundle, i)); err != nil {
			t.Fatal(err)
		}
	}
	must(t, f.TryLock(Exclusive))
	must(t, f.Unlock())
	if got := written(t, o, f); !got.Equal(before) {
		t.Errorf("written %v, before it was read %v", got, before)
	}
}

// A time that its owner has set does not count, since anybody would be kept out by one of the year 2100.
func TestAModificationTimeInTheFutureKeepsNobodyOut(t *testing.T) {
	o, f, bundle := writtenBundle(t, 2)
	future := time.Now().Add(100 * 365 * 24 * time.Hour)
	for _, name := range []string{"token", "bands", "bands/0", "Info.plist", "."} {
		must(t, os.Chtimes(filepath.Join(bundle, name), future, future))
	}
	if got := written(t, o, f); got.After(time.Now().Add(time.Minute)) {
		t.Errorf("written %v", got)
	}
}

func TestNothingIsFollowedOutOfABundleToSeeWhenItWasWritten(t *testing.T) {
	o, f, bundle := writtenBundle(t, 1, "file outside", "symlink mac.sparsebundle/bands/out ../../outside", "symlink mac.sparsebundle/loop loop",
		"fifo mac.sparsebundle/bands/fifo", "dir mac.sparsebundle/bands/sub")
	before := written(t, o, f)
	later(t, bundle)
	must(t, os.WriteFile(filepath.Dir(bundle)+"/outside", []byte("x"), 0o644))
	if got := written(t, o, f); !got.Equal(before) {
		t.Errorf("written %v, and before the file outside was written %v", got, before)
	}
	must(t, os.RemoveAll(bundle+"/bands"))
	must(t, os.Symlink("/etc", bundle+"/bands"))
	var unknown *NoQuiet
	if _, err := o.Written(t.Context(), f); !errors.As(err, &unknown) {
		t.Errorf("bands is a link: %v", err)
	}
	must(t, os.Remove(bundle+"/bands"))
	must(t, unix.Mkfifo(bundle+"/bands", 0o666))
	if got, want := written(t, o, f), changed(t, bundle); !got.Equal(want) {
		t.Errorf("bands is a fifo: written %v, want %v", got, want)
	}
}

func TestWhatIsMountedInABundleIsNotAsked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, at := range []string{"bands", "bands/sub", "sub"} {
		o, f, bundle := writtenBundle(t, 1, "dir mac.sparsebundle/bands/sub", "dir mac.sparsebundle/sub")
		if err := unix.Mount("none", bundle+"/"+at, "tmpfs", 0, ""); err != nil {
			t.Skipf("mount: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(bundle+"/"+at, unix.MNT_DETACH) })
		var unknown *NoQuiet
		if _, err := o.Written(t.Context(), f); !errors.As(err, &unknown) {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func TestABundleThatWasReplacedIsToBeOpenedAnew(t *testing.T) {
	o, f, bundle := writtenBundle(t, 1)
	must(t, os.Rename(bundle, bundle+"-old"))
	if _, err := o.Written(t.Context(), f); err != ErrReopen {
		t.Errorf("nothing there: %v", err)
	}
	plant(t, filepath.Dir(bundle), "dir mac.sparsebundle/bands", "file mac.sparsebundle/token")
	if _, err := o.Written(t.Context(), f); err != ErrReopen {
		t.Errorf("another there: %v", err)
	}
}

func TestALookThroughABundleEndsWithItsContext(t *testing.T) {
	o, f, _ := writtenBundle(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Written(ctx, f); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func BenchmarkWritten(b *testing.B) {
	for _, bands := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(bands), func(b *testing.B) {
			o, f, _ := writtenBundle(b, bands)
			for b.Loop() {
				if _, err := o.Written(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
