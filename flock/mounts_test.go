package flock

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const mountsEnv = "LOCKER_TEST_MOUNTS"

// TestMounts runs the laws about mounts in a process with a mount namespace of its own: nothing of it is seen outside.
func TestMounts(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestInPrivateMounts$", "-test.v", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), mountsEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // and makes all mounts private
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestInPrivateMounts")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestInPrivateMounts(t *testing.T) {
	if os.Getenv(mountsEnv) == "" {
		return // TestMounts runs this, in a namespace
	}
	for _, law := range []struct {
		name string
		test func(t *testing.T, base string)
	}{
		{"MountsOfBeforeAreEnteredAndLaterOnesAreNot", mountsOfBefore},
		{"RemountedFileSystemNeedsANewOpener", remounted},
		{"EntryThatIsMountedLaterIsTaken", entryMountedLater},
		{"ReadOnlyMountTakesFlock", readOnlyMount},
		{"FileThatIsAMountPoint", fileMount},
		{"KernelFileSystemsAreNotEntered", kernelMounts},
		{"MountPointWithOddBytes", oddMountPoint},
		{"MountHiddenUnderAnother", hiddenMount},
		{"PlainOpenHangsInFUSE", plainOpenHangs},
		{"UsersFUSEBelowAnEntry", fuseBelow},
		{"UsersFUSEOverAnEntry", fuseOver},
		{"UsersFUSEOverABundlesFiles", fuseOverABundlesFiles},
		{"UsersFUSEOnTheWayToAnEntry", fuseOnTheWay},
		{"KnownMountMovedAwayAndFUSEInItsPlace", fuseInPlace},
		{"RootsFUSEIsEnteredWhenNamed", rootsFUSENamed},
		{"FUSEThatGrantsEveryLockIsNoticed", fuseThatGrantsAll},
		{"OverlayLocksAndHolders", overlay},
	} {
		t.Run(law.name, func(t *testing.T) {
			// A closed way to it, unlike /tmp: nobody but root can write to / and /mnt.
			mountOn(t, "tmpfs", "/mnt", "tmpfs", 0, "mode=755")
			newOpener(t) // opens /proc/self/fd for good
			fds := descriptors(t)
			t.Cleanup(func() { sameDescriptors(t, fds) }) // after the law's own
			law.test(t, "/mnt")
		})
	}
}

func mountOn(t testing.TB, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	must(t, unix.Mount(source, target, fstype, flags, data))
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

func warned(t *testing.T, words []string, allow ...string) *Opener {
	t.Helper()
	o, warnings, err := NewOpener(allow)
	must(t, err)
	for _, word := range words {
		if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, word) }) {
			t.Errorf("no warning has %q: %q", word, warnings)
		}
	}
	return o
}

func refused(t *testing.T, o *Opener, path string, want error) {
	t.Helper()
	f, err := o.Open(path, Want{Mode: Exclusive})
	if err == nil {
		f.Close()
	}
	wantError(t, err, want, "open "+path)
}

func locks(t *testing.T, o *Opener, path string, engines Engines) *File {
	t.Helper()
	f := open(t, o, path)
	if f.Engines != engines {
		t.Errorf("%s: engines %v, want %v", path, f.Engines, engines)
	}
	must(t, f.TryLock(Exclusive))
	if same, err := o.Same(f); !same || err != nil {
		t.Errorf("%s: same: %v, %v", path, same, err)
	}
	return f
}

// leadsElsewhere is about a file that a mount was put over. Same does not look at mounts: its name is still what it was.
func leadsElsewhere(t *testing.T, o *Opener, f *File) {
	t.Helper()
	if same, err := o.LeadsTo(f.Target, f.ID); same || err != nil {
		t.Errorf("%s is under a later mount: leads to it %v, %v", f.Target, same, err)
	}
	if same, err := o.Same(f); !same || err != nil {
		t.Errorf("%s is under a later mount: same %v, %v", f.Target, same, err)
	}
}

// closedFirst ends f before mounts go.
func closedFirst(t *testing.T, f *File) {
	must(t, f.Unlock())
	must(t, f.Close())
}

func mountsOfBefore(t *testing.T, base string) {
	plant(t, base, "dir allowed/disk", "dir allowed/later", "file allowed/later/below", "dir allowed/open/disk", "mode allowed/open 777")
	mountOn(t, "tmpfs", base+"/allowed/disk", "tmpfs", 0, "")
	mountOn(t, "tmpfs", base+"/allowed/open/disk", "tmpfs", 0, "")
	plant(t, base, "dir allowed/disk/sub", "file allowed/disk/sub/file", "file allowed/open/disk/file", "dir allowed/disk/deep")
	mountOn(t, "tmpfs", base+"/allowed/disk/deep", "tmpfs", 0, "")
	plant(t, base, "file allowed/disk/deep/file")
	o := newOpener(t, base+"/allowed")
	for _, name := range []string{"disk/sub/file", "open/disk/file", "disk/deep/file"} {
		closedFirst(t, locks(t, o, base+"/allowed/"+name, OFD|BSD))
	}
	closedFirst(t, locks(t, o, base+"/allowed/disk", BSD))
	below := locks(t, o, base+"/allowed/later/below", OFD|BSD)

	mountOn(t, "tmpfs", base+"/allowed/later", "tmpfs", 0, "")
	plant(t, base, "file allowed/later/file", "file allowed/later/below")
	refused(t, o, base+"/allowed/later/file", ErrMount)
	refused(t, o, base+"/allowed/later/none", ErrMount)
	refused(t, o, base+"/allowed/later", ErrMount)
	leadsElsewhere(t, o, below)
	closedFirst(t, below)
	closedFirst(t, locks(t, newOpener(t, base+"/allowed"), base+"/allowed/later/file", OFD|BSD))
}

func remounted(t *testing.T, base string) {
	plant(t, base, "dir allowed/disk", "file allowed/disk/file")
	mountOn(t, "tmpfs", base+"/allowed/disk", "tmpfs", 0, "")
	plant(t, base, "file allowed/disk/file")
	o := newOpener(t, base+"/allowed")
	closedFirst(t, locks(t, o, base+"/allowed/disk/file", OFD|BSD))
	must(t, unix.Unmount(base+"/allowed/disk", 0))
	refused(t, o, base+"/allowed/disk/file", ErrMount)
	must(t, unix.Mount("tmpfs", base+"/allowed/disk", "tmpfs", 0, ""))
	plant(t, base, "file allowed/disk/file")
	refused(t, o, base+"/allowed/disk/file", ErrMount)
	closedFirst(t, locks(t, newOpener(t, base+"/allowed"), base+"/allowed/disk/file", OFD|BSD))
}

func entryMountedLater(t *testing.T, base string) {
	plant(t, base, "dir usb", "file usb/file", "dir owned")
	must(t, os.Chown(base+"/owned", 65533, 65533))
	o := newOpener(t, base+"/usb", base+"/owned", base+"/new")
	for _, name := range []string{"usb", "owned", "new"} {
		must(t, os.MkdirAll(base+"/"+name, 0o755))
		for range 2 {
			must(t, unix.Mount("tmpfs", base+"/"+name, "tmpfs", 0, ""))
			plant(t, base, "file "+name+"/file")
			closedFirst(t, locks(t, o, base+"/"+name+"/file", OFD|BSD))
			must(t, unix.Unmount(base+"/"+name, 0))
		}
	}
	closedFirst(t, locks(t, o, base+"/usb/file", OFD|BSD))
}

func readOnlyMount(t *testing.T, base string) {
	plant(t, base, "dir source", "file source/file", "dir allowed/ro")
	mountOn(t, base+"/source", base+"/allowed/ro", "", unix.MS_BIND, "")
	must(t, unix.Mount("", base+"/allowed/ro", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	o := newOpener(t, base+"/allowed", base+"/source")
	f := locks(t, o, base+"/allowed/ro/file", BSD)
	other := open(t, o, base+"/source/file")
	if f.ID != other.ID {
		t.Errorf("one file by two mounts is %v and %v", f.ID, other.ID)
	}
	wantError(t, other.TryLock(Exclusive), ErrBusy, "lock through the other mount")
	closedFirst(t, f)
	closedFirst(t, other)
}

func fileMount(t *testing.T, base string) {
	plant(t, base, "file source", "dir allowed", "file allowed/bound", "file allowed/later")
	mountOn(t, base+"/source", base+"/allowed/bound", "", unix.MS_BIND, "")
	o := newOpener(t, base+"/allowed")
	closedFirst(t, locks(t, o, base+"/allowed/bound", OFD|BSD))
	mountOn(t, base+"/source", base+"/allowed/later", "", unix.MS_BIND, "")
	refused(t, o, base+"/allowed/later", ErrMount)
}

func kernelMounts(t *testing.T, base string) {
	plant(t, base, "dir chroot/proc", "dir chroot/sys", "dir chroot/dev")
	mountOn(t, "proc", base+"/chroot/proc", "proc", 0, "")
	mountOn(t, "sysfs", base+"/chroot/sys", "sysfs", 0, "")
	mountOn(t, "dev", base+"/chroot/dev", "devtmpfs", 0, "")
	o := warned(t, []string{base + "/chroot/proc", base + "/chroot/sys"}, base+"/chroot")
	for _, name := range []string{"proc/sys/kernel/hostname", "proc/self/environ", "proc/version", "sys/power/state", "dev/null", "proc"} {
		refused(t, o, base+"/chroot/"+name, ErrMount)
	}
	o = warned(t, []string{"proc file system", "devtmpfs"}, base+"/chroot/proc", base+"/chroot/dev")
	refused(t, o, base+"/chroot/proc/version", ErrMount)
	refused(t, o, base+"/chroot/dev/null", ErrMount)
}

func oddMountPoint(t *testing.T, base string) {
	for i, name := range []string{"a b", "new\nline", "back\\slash", "\\040", "tab\t#", "\xff", "\u202e"} {
		at := base + "/allowed" + strconv.Itoa(i) + "/" + name
		must(t, os.MkdirAll(at, 0o755))
		mountOn(t, "tmp fs\\", at, "tmpfs", 0, "")
		newFile(t, at+"/file")
		closedFirst(t, locks(t, newOpener(t, filepath.Dir(at)), at+"/file", OFD|BSD))
	}
}

func hiddenMount(t *testing.T, base string) {
	plant(t, base, "dir allowed/x/y")
	mountOn(t, "tmpfs", base+"/allowed/x/y", "tmpfs", 0, "")
	plant(t, base, "file allowed/x/y/file")
	mountOn(t, "tmpfs", base+"/allowed/x", "tmpfs", 0, "")
	plant(t, base, "dir allowed/x/y", "file allowed/x/y/file")
	closedFirst(t, locks(t, newOpener(t, base+"/allowed"), base+"/allowed/x/y/file", OFD|BSD))
}

func overlay(t *testing.T, base string) {
	plant(t, base, "dir lower", "dir upper", "dir work", "dir merged", "file lower/file", "file upper/upper-file")
	err := unix.Mount("overlay", base+"/merged", "overlay", 0, "lowerdir="+base+"/lower,upperdir="+base+"/upper,workdir="+base+"/work")
	if err != nil {
		t.Skipf("no overlayfs here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(base+"/merged", unix.MNT_DETACH) })
	for _, o := range []*Opener{newOpener(t, base), newOpener(t, base+"/merged")} {
		for _, name := range []string{"file", "upper-file"} {
			f := locks(t, o, base+"/merged/"+name, OFD|BSD)
			must(t, f.Unlock())
			p := newOutsider(t)
			for _, kind := range []string{"flock", "ofd", "posix"} {
				p.does("open", "rw", base+"/merged/"+name)
				p.does(kind, "exclusive")
				wantError(t, f.TryLock(Exclusive), ErrBusy, name+" with an outsider's "+kind)
				holders, err := outsiders(f.ID, false, enoughTime, os.Getpid())
				must(t, err)
				if len(holders) != 1 || holders[0].PID != int32(p.pid()) || holders[0].Engine != kind {
					t.Errorf("%s: %s of %d is held by %+v", name, kind, p.pid(), holders)
				}
				p.does("close")
			}
			p.end()
			must(t, f.Close())
		}
	}
}
