package flock

import (
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Who sees whom, with a real other process: every kind of lock of both modes against both of ours, one engine at a time.
func TestEnginesExcludeTheirOutsiders(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	p := newOutsider(t)
	sees := map[Engines][]string{OFD: {"ofd", "posix"}, BSD: {"flock"}, OFD | BSD: {"ofd", "posix", "flock"}}
	for _, engines := range []Engines{OFD, BSD, OFD | BSD} {
		for _, ours := range []Mode{Exclusive, Shared} {
			for _, theirs := range []Mode{Exclusive, Shared} {
				for _, kind := range []string{"ofd", "posix", "flock"} {
					excludes := (ours == Exclusive || theirs == Exclusive) && strings.Contains(strings.Join(sees[engines], " "), kind)
					f := openAs(t, o, path, Want{Mode: ours, Engines: engines})
					if f.Engines != engines {
						t.Fatalf("engines are %v, want %v", f.Engines, engines)
					}
					name := engines.String() + " " + ours.String() + " against " + kind + " " + theirs.String()

					must(t, f.TryLock(ours))
					got, want := p.tries(path, kind, theirs), "ok"
					if excludes {
						want = "busy"
					}
					if got != want {
						t.Errorf("%s: while we hold, the outsider gets %q, want %q", name, got, want)
					}
					must(t, f.Unlock())
					if got := p.tries(path, kind, theirs); got != "ok" {
						t.Errorf("%s: after Unlock the outsider gets %q", name, got)
					}

					p.does("open", "rw", path)
					p.does(kind, theirs.String())
					if err := f.TryLock(ours); (err == ErrBusy) != excludes || !excludes && err != nil {
						t.Errorf("%s: while the outsider holds, we get %v", name, err)
					} else if excludes && f.held != 0 {
						t.Errorf("%s: after ErrBusy %v is held", name, f.held)
					}
					p.does("close")
					must(t, f.Unlock())
					must(t, f.Close())
				}
			}
		}
	}
}

func TestBusySecondEngineUndoesTheFirst(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	holder, other := newOutsider(t), newOutsider(t)
	holder.does("open", "rw", path)
	holder.does("flock", "exclusive")
	wantError(t, f.TryLock(Exclusive), ErrBusy, "lock")
	if got := other.tries(path, "ofd", Exclusive); got != "ok" {
		t.Errorf("another's ofd lock after our claim was undone: %s", got)
	}
	holder.does("close")
	must(t, f.TryLock(Exclusive))
	if got := other.tries(path, "ofd", Exclusive); got != "busy" {
		t.Errorf("another's ofd lock while we hold: %s", got)
	}
}

func TestWholeFileCoversNetatalksBytes(t *testing.T) {
	path := newFile(t, publicDir(t)+"/token")
	f := open(t, newOpener(t, path), path)
	other := open(t, newOpener(t, path), path)
	must(t, f.TryLock(Exclusive))
	for _, at := range []int64{0, 1, 1 << 40, 9223372036854775798, 9223372036854775807} {
		probe := unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}
		must(t, unix.FcntlFlock(uintptr(other.FD()), unix.F_OFD_GETLK, &probe))
		if probe.Type == unix.F_UNLCK {
			t.Errorf("byte %d is free", at)
		}
	}
}

func TestHeldDescriptorIsNeverConverted(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	f, second := open(t, o, path), open(t, o, path)
	must(t, f.TryLock(Shared))
	for _, m := range []Mode{Shared, Exclusive} {
		wantError(t, f.TryLock(m), ErrHeld, "lock again, "+m.String())
	}
	must(t, second.TryLock(Shared))
	must(t, second.Unlock())
	wantError(t, second.TryLock(Exclusive), ErrBusy, "exclusive beside shared")
	must(t, f.Unlock())
	must(t, f.Unlock())
	must(t, second.TryLock(Exclusive))
	wantError(t, f.TryLock(Shared), ErrBusy, "shared beside exclusive")
	if err := f.TryLock(0); err == nil {
		t.Error("mode 0 was locked")
	}
}

func TestLockSurvivesGarbageCollection(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	fd := func() int {
		f, err := newOpener(t, path).Open(path, Want{Mode: Exclusive})
		must(t, err)
		must(t, f.TryLock(Exclusive))
		return f.FD()
	}()
	for range 10 {
		runtime.GC()
	}
	p := newOutsider(t)
	for _, kind := range []string{"flock", "ofd", "posix"} {
		if got := p.tries(path, kind, Exclusive); got != "busy" {
			t.Errorf("after collections an outsider's %s lock is %s", kind, got)
		}
	}
	must(t, unix.Close(fd))
	if got := p.tries(path, "flock", Exclusive); got != "ok" {
		t.Errorf("after close: %s", got)
	}
}

func TestCopyKeepsTheLockOverCloseAndUnlockFreesIt(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	f, p := open(t, o, path), newOutsider(t)
	must(t, f.TryLock(Exclusive))
	kept, err := unix.FcntlInt(uintptr(f.FD()), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(kept)
	other := open(t, o, path) // an unrelated open and close of the file does nothing
	must(t, other.Close())
	must(t, f.Close())
	must(t, f.Close())
	if got := p.tries(path, "ofd", Exclusive) + p.tries(path, "flock", Exclusive); got != "busybusy" {
		t.Errorf("after Close with a copy: %s", got)
	}

	f = open(t, o, path)
	wantError(t, f.TryLock(Exclusive), ErrBusy, "lock beside the copy")
	must(t, unix.Flock(kept, unix.LOCK_UN))
	must(t, unix.FcntlFlock(uintptr(kept), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}))
	must(t, f.TryLock(Exclusive))
	again, err := unix.FcntlInt(uintptr(f.FD()), unix.F_DUPFD_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(again)
	must(t, f.Unlock())
	if got := p.tries(path, "ofd", Exclusive) + p.tries(path, "flock", Exclusive); got != "okok" {
		t.Errorf("after Unlock with a copy: %s", got)
	}
}

func TestFallbacksToFlockAlone(t *testing.T) {
	dir := publicDir(t)
	o := newOpener(t, dir)
	runs, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(dir+"/program", runs, 0o755))
	plant(t, dir, "dir directory", "file plain", "file group-exec", "mode group-exec 654", "dir b.sparsebundle", "file b.sparsebundle/token",
		"mode b.sparsebundle/token 755")
	running := exec.Command(dir + "/program")
	running.Env = []string{outsiderEnv + "=1"}
	in, err := running.StdinPipe()
	must(t, err)
	must(t, running.Start())
	defer running.Wait()
	defer in.Close()

	for _, c := range []struct {
		path    string
		engines Engines
		target  string
	}{
		{"plain", OFD | BSD, "plain"},
		{"directory", BSD, "directory"},
		{"group-exec", BSD, "group-exec"},
		{"program", BSD, "program"},
		{"b.sparsebundle", OFD | BSD, "b.sparsebundle/token"},
		{"b.sparsebundle/token", OFD | BSD, "b.sparsebundle/token"},
	} {
		f := open(t, o, dir+"/"+c.path)
		if f.Engines != c.engines || f.Path != dir+"/"+c.path || f.Target != dir+"/"+c.target || f.Bundle != strings.HasSuffix(c.target, "/token") || f.Network {
			t.Errorf("%s: %+v, want engines %v, target %s", c.path, f, c.engines, c.target)
		}
		must(t, f.TryLock(Exclusive))
		if c.path == "program" {
			again := exec.Command(dir + "/program")
			again.Env = []string{outsiderEnv + "=1"}
			if err := again.Run(); err != nil {
				t.Errorf("a program that is locked does not run: %v", err)
			}
		}
		must(t, f.Unlock())
		if c.engines == BSD {
			_, err := o.Open(dir+"/"+c.path, Want{Mode: Exclusive, Engines: OFD})
			wantError(t, err, ErrEngines, c.path+" with ofd alone")
		}
		only := openAs(t, o, dir+"/"+c.path, Want{Mode: Exclusive, Engines: BSD})
		if only.Engines != BSD {
			t.Errorf("%s: a rule that says flock got %v", c.path, only.Engines)
		}
		if flags, err := unix.FcntlInt(uintptr(only.FD()), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY {
			t.Errorf("%s: flock alone is on a writable descriptor (%#x, %v)", c.path, flags, err)
		}
		must(t, f.Close()) // the next but one is the same file, and has to be idle
		must(t, only.Close())
	}

	must(t, os.Chmod(dir+"/program", 0o644)) // still running, and no execute bit to warn us: ETXTBSY
	if f := open(t, o, dir+"/program"); f.Engines != BSD {
		t.Errorf("running binary: engines %v", f.Engines)
	}
}

func TestDescriptorsAreCloseOnExecAndNonblocking(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "file file", "dir dir", "dir b.sparsebundle", "file b.sparsebundle/token")
	o := newOpener(t, dir)
	for _, name := range []string{"file", "dir", "b.sparsebundle"} {
		f := open(t, o, dir+"/"+name)
		if flags, err := unix.FcntlInt(uintptr(f.FD()), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: descriptor flags %#x, %v", name, flags, err)
		}
		if flags, err := unix.FcntlInt(uintptr(f.FD()), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 || flags&unix.O_PATH != 0 {
			t.Errorf("%s: status flags %#x, %v", name, flags, err)
		}
	}
}

func TestOrdinaryUserLocksWhatHeMayOpen(t *testing.T) {
	if runsAsOrdinaryUser(t) {
		return
	}
	dir := publicDir(t)
	plant(t, dir, "file readonly", "mode readonly 444", "file secret", "mode secret 0", "dir closed", "file closed/file", "mode closed 0")
	defer os.Chmod(dir+"/closed", 0o700)
	o := newOpener(t, dir, "/etc/passwd")
	for _, path := range []string{dir + "/readonly", "/etc/passwd"} {
		f := open(t, o, path)
		if f.Engines != BSD {
			t.Errorf("%s: engines %v", path, f.Engines)
		}
	}
	must(t, open(t, o, dir+"/readonly").TryLock(Exclusive))
	for _, path := range []string{dir + "/secret", dir + "/closed/file"} {
		_, err := o.Open(path, Want{Mode: Exclusive})
		wantError(t, err, fs.ErrPermission, path)
	}
}
