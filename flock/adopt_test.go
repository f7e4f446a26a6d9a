package flock

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// copyOf gives what the keeper gives back: another descriptor of the same description.
func copyOf(t *testing.T, fd int) int {
	t.Helper()
	c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	return c
}

func TestCopyIsTakenBackAsLongAsItHoldsItsLock(t *testing.T) {
	dir := publicDir(t)
	o := newOpener(t, dir)
	f := open(t, o, newFile(t, dir+"/file"))
	if err := f.TryLock(Exclusive); err != nil {
		t.Fatal(err)
	}
	got, err := o.Examine(copyOf(t, f.fd)).Adopt(f.Path, f.Target, Exclusive)
	must(t, err)
	if same, err := o.Same(got); got.ID != f.ID || got.Engines != OFD|BSD || got.Network || !same || err != nil {
		t.Errorf("got %+v, %v, %v, want that of %+v", got, same, err, f)
	}
	spare := copyOf(t, f.fd)
	defer unix.Close(spare)
	must(t, got.Unlock())
	must(t, got.Close())
	if _, err := o.Examine(spare).Adopt(f.Path, f.Target, Exclusive); !errors.Is(err, ErrNotHeld) {
		t.Errorf("unlocked: %v, want %v", err, ErrNotHeld)
	}
}

// lockedElsewhere gives a file and a locked descriptor of it that was opened in another mount namespace, which is gone.
func lockedElsewhere(t *testing.T) (o *Opener, path string, fd int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a mount namespace")
	}
	dir := publicDir(t)
	path = newFile(t, dir+"/file")
	if fd = openElsewhere(path); fd < 0 {
		t.Skip("needs root with mount namespaces of its own")
	}
	must(t, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	return newOpener(t, dir), path, fd
}

// Under a service manager each run has a mount namespace of its own, which is gone with it: its mounts are none of the next one's.
func TestCopyFromAnotherMountNamespaceIsTakenBack(t *testing.T) {
	o, path, fd := lockedElsewhere(t)
	f, err := o.Examine(fd).Adopt(path, path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Network {
		t.Errorf("a file of this machine's disk is taken for one that may hang: %+v", f)
	}
	if same, err := o.Same(f); !same || err != nil {
		t.Errorf("its name leads to it: %v, %v", same, err)
	}
	must(t, os.Rename(path, path+".old"))
	newFile(t, path)
	if same, err := o.Same(f); same || err != nil {
		t.Errorf("its name leads to another file: %v, %v", same, err)
	}
}

// Else each start would read the table of mounts once for each lock, under a service manager where all copies are from elsewhere.
func TestTheMountOfCopiesFromElsewhereIsLookedUpOnce(t *testing.T) {
	o, path, fd := lockedElsewhere(t)
	defer unix.Close(fd)
	first, again := o.Examine(fd), o.Examine(fd)
	if first.err != nil || again.err != nil || !first.on.elsewhere || first.on != again.on {
		t.Errorf("got the mounts %+v (%v) and %+v (%v), want one and the same", first.on, first.err, again.on, again.err)
	}
	other := o.Examine(openLocked(t, newFile(t, path+".other")))
	if other.err != nil || other.on.elsewhere {
		t.Errorf("a file of our own namespace: %+v, %v", other.on, other.err)
	}
}

func openLocked(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
	return fd
}

func TestACopyIsReadOnlyIfItWasOpenedSo(t *testing.T) {
	o := newOpener(t, publicDir(t))
	path := newFile(t, publicDir(t)+"/file")
	for _, flags := range []int{unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY} {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB))
		f, err := o.Examine(fd).Adopt(path, path, Shared)
		must(t, err)
		if want := flags == unix.O_RDONLY; f.readOnly != want {
			t.Errorf("opened with %#x: read-only %v, want %v", flags, f.readOnly, want)
		}
		must(t, f.Close())
	}
}

// openElsewhere opens a file in a mount namespace that is gone when it returns; -1 where none can be had.
func openElsewhere(path string) int {
	fd := make(chan int)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the one thread that may not end, and whose namespace /proc/self shows
			defer runtime.UnlockOSThread()
			fd <- openElsewhere(path)
			return
		}
		// Never unlocked: the thread ends with the goroutine, and its namespace with it.
		if unix.Unshare(unix.CLONE_NEWNS) != nil {
			fd <- -1
			return
		}
		n, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			n = -1
		}
		fd <- n
	}()
	return <-fd
}

// A bundle needs no suffix to be one; the guard asks after it by Bundle.
func TestABundleThatIsTakenBackIsOneStill(t *testing.T) {
	for _, name := range []string{"/a.sparsebundle", "/machine"} {
		dir := publicDir(t)
		plant(t, dir, "dir "+name[1:]+"/bands", "file "+name[1:]+"/token", "file "+name[1:]+"/Info.plist")
		o := newOpener(t, dir)
		f := open(t, o, dir+name)
		must(t, f.TryLock(Exclusive))
		got, err := o.Examine(copyOf(t, f.fd)).Adopt(f.Path, f.Target, Exclusive)
		must(t, err)
		if !f.Bundle || !got.Bundle {
			t.Errorf("%s: a bundle when opened: %v, when taken back: %v", name, f.Bundle, got.Bundle)
		}
		fds, _, err := o.BundleDirs(got, 16)
		must(t, err)
		if len(fds) != 2 {
			t.Errorf("%s: %d directories", name, len(fds))
		}
		closeAll(fds)
		must(t, got.Close())
	}
}
