package flock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// heldBundle is a bundle in a directory of its own, locked.
func heldBundle(t testing.TB, lines ...string) (o *Opener, f *File) {
	t.Helper()
	base := publicDir(t)
	plant(t, base, append([]string{"dir a.sparsebundle/bands", "file a.sparsebundle/token", "file a.sparsebundle/Info.plist"}, lines...)...)
	o = newOpener(t, base)
	f = openAs(t, o, base+"/a.sparsebundle", Want{Mode: Exclusive})
	must(t, f.TryLock(Exclusive))
	return o, f
}

// namesOf are the names by which the kernel knows open files, below dir.
func namesOf(t testing.TB, dir string, fds []int) (names []string) {
	t.Helper()
	for _, fd := range fds {
		name, err := filepath.Rel(dir, NameOf(fd))
		must(t, err)
		names = append(names, name)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		must(t, err)
		if flags&unix.O_PATH != 0 || flags&unix.O_ACCMODE != unix.O_RDONLY {
			t.Errorf("%s is open with %#o", name, flags)
		}
	}
	closeAll(fds)
	return names
}

func TestTheDirectoriesOfABundleAreItsOwnAndThoseDirectlyInIt(t *testing.T) {
	o, f := heldBundle(t, "dir a.sparsebundle/mapped/deep", "dir a.sparsebundle/.AppleDouble", "dir elsewhere", "symlink a.sparsebundle/link ../elsewhere",
		"fifo a.sparsebundle/fifo", "symlink a.sparsebundle/root /")
	fds, more, err := o.BundleDirs(f, 16)
	must(t, err)
	got := fmt.Sprint(namesOf(t, f.Path, fds))
	if want := "[. bands .AppleDouble mapped]"; got != want || more {
		t.Errorf("got %s %v, want %s", got, more, want)
	}
}

func TestOfABundleWithManyDirectoriesTheBandsComeFirst(t *testing.T) {
	var lines []string
	for i := range 40 {
		lines = append(lines, fmt.Sprintf("dir a.sparsebundle/aa%02d", i))
	}
	o, f := heldBundle(t, lines...)
	fds, more, err := o.BundleDirs(f, 4)
	must(t, err)
	if got := fmt.Sprint(namesOf(t, f.Path, fds)); got != "[. bands aa00 aa01]" || !more {
		t.Errorf("got %s %v", got, more)
	}
}

func TestADirectoryOfManyEntriesIsNotReadToItsEnd(t *testing.T) {
	var lines []string
	for i := range 3 * maxEntries {
		lines = append(lines, fmt.Sprintf("file a.sparsebundle/%d", i))
	}
	o, f := heldBundle(t, lines...)
	fds, more, err := o.BundleDirs(f, 16)
	must(t, err)
	if got := fmt.Sprint(namesOf(t, f.Path, fds)); got != "[. bands]" || !more {
		t.Errorf("got %s, more %v", got, more)
	}
}

func TestTheDirectoriesOfAnotherBundleAreNotOpened(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string){
		"renamed":     func(t *testing.T, dir string) { must(t, os.Rename(dir, dir+".old")) },
		"other token": func(t *testing.T, dir string) { must(t, os.Rename(newFile(t, dir+"/new"), dir+"/token")) },
		"no token":    func(t *testing.T, dir string) { must(t, os.Remove(dir+"/token")) },
		"symlink to one": func(t *testing.T, dir string) {
			must(t, os.Rename(dir, dir+".old"))
			must(t, os.Symlink(dir+".old", dir))
		},
		"another bundle": func(t *testing.T, dir string) {
			must(t, os.Rename(dir, dir+".old"))
			plant(t, filepath.Dir(dir), "dir a.sparsebundle/bands", "file a.sparsebundle/token")
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, f := heldBundle(t)
			before := openFiles(t)
			change(t, f.Path)
			fds, _, err := o.BundleDirs(f, 16)
			if !errors.Is(err, ErrMoved) || fds != nil {
				t.Errorf("opened %v, %v, want %v", namesOf(t, f.Path, fds), err, ErrMoved)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors are open, %d were", after, before)
			}
		})
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(names)
}

func TestAskingAgainFindsWhoHasOpenedSinceAndLetsGoOfNothing(t *testing.T) {
	f := idleFile(t)
	must(t, f.TryLock(Exclusive))
	must(t, f.AskAgain())
	p := newOutsider(t)
	p.does("open", "ro", f.Path)
	for range 2 {
		if err := f.AskAgain(); err != ErrInUse {
			t.Errorf("got %v, want %v", err, ErrInUse)
		}
	}
	if got := newOutsider(t).tries(f.Path, "flock", Exclusive); got == "ok" {
		t.Error("the lock was let go")
	}
	p.does("close")
	eventually(t, "nobody has it open", func() bool { return f.AskAgain() == nil }) // see locksIdle
	if !f.Idle {
		t.Error("it does not rest on idle any more")
	}
	must(t, f.Unlock())
	if err := f.AskAgain(); err != nil {
		t.Errorf("of a file that is not locked: %v", err)
	}
}

// A broker after a restart may be in another mount namespace than the one that opened the file, and then its mount is none of ours.
// What its name leads to is.
func TestABundleThatWasOpenedOnAnotherNamespacesMountIsLookedAtWhereItIsHere(t *testing.T) {
	o, f := heldBundle(t)
	f.Network, f.mount = true, &mount{network: true, elsewhere: true}
	fds, _, err := o.BundleDirs(f, 16)
	must(t, err)
	closeAll(fds)
	f.mount = &mount{network: true}
	if fds, _, err := o.BundleDirs(f, 16); err == nil {
		closeAll(fds)
		t.Error("of a bundle on a network file system they are opened")
	}
	f.mount, f.Target = &mount{network: true, elsewhere: true}, "/nowhere/a.sparsebundle/token"
	if !o.MayHang(f) {
		t.Error("of a name outside of the whitelist it is not known that it does not hang")
	}
}
