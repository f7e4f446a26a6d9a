package flock

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// attack runs each step over and over, in a thread of its own, while during runs.
func attack(t testing.TB, during func(), steps ...func()) {
	t.Helper()
	var over atomic.Bool
	var running sync.WaitGroup
	for _, step := range steps {
		running.Go(func() {
			for !over.Load() {
				step()
			}
		})
	}
	defer func() {
		over.Store(true)
		running.Wait()
	}()
	during()
}

func opens(t testing.TB, n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// racedTree is allowed/, in which a user exchanges a directory with a symbolic link out of it, renames it, replaces files by
// links; and the outside that he wants to get at.
func racedTree(t testing.TB) (base string, steps []func(), stolen func(fd int) bool) {
	base = publicDir(t)
	plant(t, base, "dir outside/dir", "file outside/file", "file outside/dir/file", "dir allowed/dir/dir", "file allowed/file",
		"file allowed/dir/file", "file allowed/dir/dir/file", "symlink allowed/link ../outside", "symlink allowed/dir/link ../../outside/dir",
		"symlink allowed/link-file ../outside/file", "dir allowed/parking")
	// By descriptor: a path through allowed/dir may lead the attacker himself outside, whose files he would then move in.
	exchange := func(dir, a, b string) func() {
		fd, err := unix.Open(base+dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		return func() { unix.Renameat2(fd, a, fd, b, unix.RENAME_EXCHANGE) }
	}
	steps = []func(){
		exchange("/allowed", "dir", "link"),
		exchange("/allowed", "file", "link-file"),
		exchange("/allowed/dir", "dir", "link"),
		func() {
			unix.Rename(base+"/allowed/dir", base+"/allowed/parking/dir")
			unix.Rename(base+"/allowed/parking/dir", base+"/allowed/dir")
		},
	}
	victims := make(map[ID]bool)
	for _, name := range []string{"", "/dir", "/file", "/dir/file"} {
		var st unix.Stat_t
		must(t, unix.Stat(base+"/outside"+name, &st))
		victims[ID{st.Dev, st.Ino}] = true
	}
	return base, steps, func(fd int) bool {
		var st unix.Stat_t
		must(t, unix.Fstat(fd, &st))
		return victims[ID{st.Dev, st.Ino}]
	}
}

var racedPaths = []string{"/allowed/dir/file", "/allowed/file", "/allowed/dir/dir/file", "/allowed/dir"}

func TestNoOpenEscapesARace(t *testing.T) {
	base, steps, stolen := racedTree(t)
	o := newOpener(t, base+"/allowed")
	fds := descriptors(t)
	opened, refused, busy := 0, 0, 0
	attack(t, func() {
		for i := range opens(t, 200_000) {
			path := base + racedPaths[i%len(racedPaths)]
			f, err := o.Open(path, Want{Mode: Exclusive})
			switch {
			case err == nil:
				opened++
				if stolen(f.FD()) {
					t.Fatalf("open %d of %s escaped", i, path)
				}
				if _, err := o.Same(f); err != nil {
					wantError(t, err, ErrBusy, "look again")
				}
				f.Close()
			case errors.Is(err, ErrBusy):
				busy++
			case errors.Is(err, ErrSymlink), errors.Is(err, ErrNotFound):
				refused++
			default:
				t.Fatalf("open %d of %s: %v", i, path, err)
			}
		}
	}, steps...)
	t.Logf("opened %d, refused %d, busy %d", opened, refused, busy)
	if opened == 0 || refused == 0 {
		t.Error("there was no race")
	}
	sameDescriptors(t, fds)
}

// The same race gets a plain open out of the tree: so the test above can fail.
func TestPlainOpenDoesEscapeTheRace(t *testing.T) {
	base, steps, stolen := racedTree(t)
	escaped := 0
	attack(t, func() {
		deadline := time.Now().Add(time.Minute)
		for i := 0; i < opens(t, 200_000) || escaped == 0 && time.Now().Before(deadline); i++ {
			fd, err := unix.Open(base+racedPaths[i%len(racedPaths)], unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err == nil {
				if stolen(fd) {
					escaped++
				}
				unix.Close(fd)
			}
			if escaped > 100 {
				return
			}
		}
	}, steps...)
	if escaped == 0 {
		t.Error("no plain open escaped: the race proves nothing")
	}
}

// A second name that comes and goes: the count of links is one most of the time, and another's file must not be had by it.
func TestNoOpenGetsAFileThroughALinkThatIsGone(t *testing.T) {
	base := publicDir(t)
	plant(t, base, "dir outside", "file outside/secret", "dir allowed", "dir allowed/a", "dir allowed/b")
	o := newOpener(t, base+"/allowed")
	secret, pulled := base+"/outside/secret", base+"/allowed/a/pulled"
	link := func() {
		os.Link(secret, pulled)
		unix.Unlink(pulled)
	}
	exchange := func() {
		unix.Renameat2(unix.AT_FDCWD, base+"/allowed/a", unix.AT_FDCWD, base+"/allowed/b", unix.RENAME_EXCHANGE)
	}
	for _, steps := range [][]func(){{link}, {link, exchange}} {
		attack(t, func() {
			for i := range opens(t, 60_000) {
				f, err := o.Open(pulled, Want{Mode: Exclusive})
				if err == nil {
					f.Close()
					t.Fatalf("open %d got the file", i)
				}
				if !errors.Is(err, ErrHardlinks) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrBusy) {
					t.Fatalf("open %d: %v", i, err)
				}
			}
		}, steps...)
	}
}

// Counting links once is not enough: so the test above can fail.
func TestCountingLinksOnceIsRaced(t *testing.T) {
	base := publicDir(t)
	plant(t, base, "file secret")
	secret, pulled := base+"/secret", base+"/pulled"
	got := 0
	attack(t, func() {
		deadline := time.Now().Add(time.Minute)
		for n := 0; n < opens(t, 200_000) || got == 0 && time.Now().Before(deadline); n++ {
			fd, err := unix.Open(pulled, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			var st unix.Stat_t
			must(t, unix.Fstat(fd, &st))
			unix.Close(fd)
			if st.Nlink == 1 {
				if got++; got > 100 {
					return
				}
			}
		}
	}, func() {
		os.Link(secret, pulled)
		unix.Unlink(pulled)
	})
	if got == 0 {
		t.Error("never saw a count of one: the race proves nothing")
	}
}

// A file that its owner replaces all the time can still be had, and is one of those that had the name.
func TestReplacedFileIsOpenedOrBusy(t *testing.T) {
	base := publicDir(t)
	o := newOpener(t, base)
	path := newFile(t, base+"/file")
	newFile(t, base+"/other")
	opened := 0
	attack(t, func() {
		for range opens(t, 20_000) {
			f, err := o.Open(path, Want{Mode: Exclusive})
			if err != nil {
				wantError(t, err, ErrBusy, "open")
				continue
			}
			opened++
			if err := f.TryLock(Exclusive); err == nil {
				must(t, f.Unlock())
			} else {
				wantError(t, err, ErrBusy, "lock")
			}
			f.Close()
		}
	}, func() {
		unix.Renameat2(unix.AT_FDCWD, base+"/file", unix.AT_FDCWD, base+"/other", unix.RENAME_EXCHANGE)
	})
	if opened == 0 {
		t.Error("never opened")
	}
}
