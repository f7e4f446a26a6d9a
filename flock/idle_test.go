package flock

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// idleFile is a file that is to be idle, tested already, so that the self-test closes nothing while hints are counted.
func idleFile(t testing.TB) *File {
	t.Helper()
	path := newFile(t, publicDir(t)+"/file")
	f := openAs(t, newOpener(t, path), path, Want{Mode: Exclusive, Idle: true})
	locksIdle(t, f)
	if !f.Idle {
		t.Fatal("nobody has it open, and it is not idle: this file system has no leases, or we may not take one")
	}
	must(t, f.Unlock())
	return f
}

// locksIdle locks a file that was closed just now. Whoever goes through the descriptors of all processes meanwhile, as tests of other packages
// do, has what he is looking at open himself for that moment. proc_pid_fdinfo(5)
func locksIdle(t testing.TB, f *File) {
	t.Helper()
	eventually(t, f.Path+" is idle", func() bool {
		err := f.TryLock(Exclusive)
		if err != nil && err != ErrInUse {
			t.Fatal(err)
		}
		return err == nil
	})
}

func TestIdleIsAFileThatNobodyElseCanReadOrWrite(t *testing.T) {
	for _, c := range []struct {
		opens []string
		then  string
		want  error
	}{
		{[]string{"open", "ro"}, "", ErrInUse},
		{[]string{"open", "wo"}, "", ErrInUse},
		{[]string{"open", "rw"}, "", ErrInUse},
		{[]string{"open", "path"}, "", nil},
		{[]string{"open", "ro"}, "map", ErrInUse},
		{[]string{"open", "rw"}, "map", ErrInUse},
		{[]string{"open", "rw"}, "close", nil},
	} {
		f := idleFile(t)
		p := newOutsider(t)
		p.does(append(c.opens, f.Path)...)
		if c.then != "" {
			p.does(c.then)
		}
		var err error
		if c.then == "close" {
			locksIdle(t, f)
		} else {
			err = f.TryLock(Exclusive)
		}
		if err != c.want || f.Idle != (err == nil) {
			t.Errorf("%v %s: got %v, idle %v, want %v", c.opens, c.then, err, f.Idle, c.want)
		}
		if err != nil {
			wantError(t, err, ErrBusy, "in use")
			if got := newOutsider(t).tries(f.Path, "flock", Exclusive); got != "ok" {
				t.Errorf("%v %s: after a claim that was refused flock is %s", c.opens, c.then, got)
			}
			if got := newOutsider(t).tries(f.Path, "ofd", Exclusive); got != "ok" {
				t.Errorf("%v %s: after a claim that was refused ofd is %s", c.opens, c.then, got)
			}
		}
	}
}

func TestWhoDoesNotAskIsNotKeptWaitingByAnOpen(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	p := newOutsider(t)
	p.does("open", "rw", path)
	must(t, f.TryLock(Exclusive))
	if f.Idle || f.AsksIdle() {
		t.Error("it was not asked whether it is idle")
	}
}

func TestABundleIsAskedWithoutBeingTold(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "dir b.sparsebundle", "file b.sparsebundle/token", "dir unnamed/bands", "file unnamed/token", "file unnamed/Info.plist")
	o := newOpener(t, dir)
	for _, path := range []string{dir + "/b.sparsebundle", dir + "/b.sparsebundle/token", dir + "/unnamed"} {
		f := open(t, o, path)
		p := newOutsider(t)
		p.does("open", "ro", f.Target)
		wantError(t, f.TryLock(Exclusive), ErrInUse, path)
		p.does("close")
		locksIdle(t, f)
		if !f.Idle {
			t.Errorf("%s: not idle", path)
		}
		must(t, f.Unlock())
		must(t, f.Close())
	}
}

func TestABundleIsNotAskedWhereItMayBeInUse(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "dir b.sparsebundle", "file b.sparsebundle/token")
	o := newOpener(t, dir)
	for _, w := range []Want{{Mode: Exclusive, InUse: true}, {Mode: Exclusive, Idle: true, InUse: true}} {
		f := openAs(t, o, dir+"/b.sparsebundle", w)
		p := newOutsider(t)
		p.does("open", "ro", f.Target)
		must(t, f.TryLock(Exclusive))
		if f.Idle || f.AsksIdle() {
			t.Errorf("%+v: it was asked whether it is idle", w)
		}
		must(t, f.Unlock())
		must(t, f.Close())
		p.does("close")
	}
}

func TestTheLeaseIsGoneAfterwards(t *testing.T) {
	f := idleFile(t)
	must(t, f.TryLock(Exclusive))
	if kind, err := unix.FcntlInt(uintptr(f.FD()), unix.F_GETLEASE, 0); err != nil || kind != unix.F_UNLCK {
		t.Errorf("lease %d, %v", kind, err)
	}
	fd, err := unix.Open(f.Path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Close(fd))
	if owner, err := unix.FcntlInt(uintptr(f.FD()), unix.F_GETOWN, 0); err != nil || owner != 0 {
		t.Errorf("owner of the signals %d, %v", owner, err)
	}
}

func TestWhereItCannotBeFoundOutThatIsSaid(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "dir dir", "file file", "dir b.sparsebundle", "file b.sparsebundle/token")
	o := newOpener(t, dir)
	var unknown *NoIdle
	for _, c := range []struct {
		name string
		mode Mode
	}{{"dir", Exclusive}, {"dir", Shared}, {"file", Shared}} {
		_, err := o.Open(dir+"/"+c.name, Want{Mode: c.mode, Idle: true})
		if !errors.As(err, &unknown) || unknown.Why == "" {
			t.Errorf("%s %s: %v", c.name, c.mode, err)
		}
	}
	_, err := o.Open(dir+"/b.sparsebundle", Want{Mode: Shared, Idle: true})
	wantError(t, err, ErrSharedBundle, "a shared bundle")
}

// A lockerd that is not root's, or lacks CAP_LEASE, locks files of others, and bundles, all the same, and does not call them idle.
func TestWithoutTheRightToLeasesABundleIsHeldAndNotCalledIdle(t *testing.T) {
	needRoot(t)
	dir := publicDir(t)
	plant(t, dir, "file file", "dir b.sparsebundle", "file b.sparsebundle/token")
	o := newOpener(t, dir)
	must(t, os.Chown(dir+"/file", nobodys, nobodys))
	must(t, os.Chown(dir+"/b.sparsebundle/token", nobodys, nobodys))
	f := openAs(t, o, dir+"/file", Want{Mode: Exclusive, Idle: true})
	b := open(t, o, dir+"/b.sparsebundle")
	var errs [2]error
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread, which has less than the others now, ends with us
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if errs[0] = unix.Capget(&head, &data[0]); errs[0] != nil {
			return
		}
		data[0].Effective &^= 1 << unix.CAP_LEASE
		if errs[0] = unix.Capset(&head, &data[0]); errs[0] != nil {
			return
		}
		errs = [2]error{f.TryLock(Exclusive), b.TryLock(Exclusive)}
	}()
	<-done
	var unknown *NoIdle
	if !errors.As(errs[0], &unknown) {
		t.Errorf("asked for: %v", errs[0])
	}
	if errs[1] != nil || b.Idle {
		t.Errorf("a bundle: %v, idle %v", errs[1], b.Idle)
	}
	if got := newOutsider(t).tries(f.Path, "ofd", Exclusive); got != "ok" {
		t.Errorf("after a refused claim ofd is %s", got)
	}
	must(t, b.Unlock())
	must(t, b.TryLock(Exclusive)) // with the right
	if !b.Idle {
		t.Error("not idle")
	}
}

func TestAProgramThatRunsIsInUse(t *testing.T) {
	dir := publicDir(t)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("no sleep(1)")
	}
	text, err := os.ReadFile(sleep)
	must(t, err)
	path := dir + "/program"
	must(t, os.WriteFile(path, text, 0o755))
	f := openAs(t, newOpener(t, dir), path, Want{Mode: Exclusive, Idle: true})
	locksIdle(t, f) // through a descriptor for reading only
	if !f.Idle || f.Engines != BSD {
		t.Errorf("idle %v, engines %v", f.Idle, f.Engines)
	}
	must(t, f.Unlock())
	cmd := exec.Command(path, "1000")
	must(t, cmd.Start())
	wantError(t, f.TryLock(Exclusive), ErrInUse, "while it runs")
	must(t, cmd.Process.Kill())
	cmd.Wait()
	locksIdle(t, f)
}

func TestCloseOfTheLastOpenerWakesWithoutTheNet(t *testing.T) {
	for _, c := range []struct{ open, then, end string }{
		{"ro", "", "close"}, {"wo", "", "close"}, {"rw", "", "close"}, {"ro", "map", "unmap"}, {"ro", "", "death"}, {"rw", "map", "death"},
	} {
		f, _ := wakesByItself(t, func() (*Waiter, *File, chan error) {
			w := onHintsAlone(newWaiter(t))
			f := idleFile(t)
			first, last := newOutsider(t), newOutsider(t)
			first.does("open", "ro", f.Path)
			last.does("open", c.open, f.Path)
			if c.then != "" {
				last.does(c.then)
			}
			tried, done := waiting(t.Context(), w, f)
			if err := <-tried; err != ErrInUse {
				t.Fatalf("%+v: %v", c, err)
			}
			first.does("close")
			if c.end == "death" {
				must(t, last.cmd.Process.Kill())
			} else {
				last.does(c.end)
			}
			return w, f, done
		})
		if !f.Idle {
			t.Errorf("%+v: not idle", c)
		}
		must(t, f.Unlock())
	}
}

// A try that closed something would wake its own waiter, for ever.
func TestAWaitForAnIdleFileDoesNotSpin(t *testing.T) {
	w := onHintsAlone(newWaiter(t))
	f := idleFile(t)
	p := newOutsider(t)
	p.does("open", "ro", f.Path)
	ctx, cancel := context.WithCancel(t.Context())
	tried, done := waiting(ctx, w, f)
	wantError(t, <-tried, ErrInUse, "first try")
	for range 3 { // each gives two tries at most: the hint, and the second look
		other := newOutsider(t)
		other.does("open", "ro", f.Path)
		other.does("close")
	}
	cancel()
	wantError(t, <-done, context.Canceled, "wait")
	if n := len(tried); n > 6 {
		t.Errorf("%d tries for three hints", n)
	}
}

func TestParkedFilesAreInNobodysWay(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	f := openAs(t, o, path, Want{Mode: Exclusive, Idle: true})
	var others []*File
	for range 3 {
		others = append(others, open(t, o, path))
	}
	wantError(t, f.TryLock(Exclusive), ErrInUse, "three others of ours have it open")
	for i, other := range others {
		fds := descriptors(t)
		other.Park()
		other.Park()
		sameCount(t, fds)
		if err := f.TryLock(Exclusive); (err == nil) != (i == 2) {
			t.Errorf("%d are parked: %v", i+1, err)
		}
	}
	wantError(t, others[0].TryLock(Exclusive), ErrBusy, "a parked one, while another has it locked")
	must(t, f.Unlock())
	others[1].Park()
	for _, other := range others {
		fds := descriptors(t)
		must(t, other.TryLock(Exclusive))
		sameCount(t, fds)
		if same, err := o.Same(other); err != nil || !same {
			t.Errorf("it is the same file: %v %v", same, err)
		}
		must(t, other.Unlock())
	}
	wantError(t, f.TryLock(Exclusive), ErrInUse, "they are open again")
}

func sameCount(t testing.TB, before map[int]string) {
	t.Helper()
	if now := descriptors(t); len(now) != len(before) {
		t.Errorf("%d descriptors, then %d", len(before), len(now))
	}
}

func TestAParkedFileWakesItsWaiter(t *testing.T) {
	wakesByItself(t, func() (*Waiter, *File, chan error) {
		w := onHintsAlone(newWaiter(t))
		f, p := held(t, "flock")
		f.Park()
		tried, done := waiting(t.Context(), w, f)
		wantError(t, <-tried, ErrBusy, "try")
		p.does("close")
		return w, f, done
	})
}

func TestAParkedFileThatIsRemovedIsStillItself(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	f := open(t, o, path)
	f.Park()
	must(t, os.Rename(path, path+"2"))
	newFile(t, path)
	must(t, f.TryLock(Exclusive))
	if same, err := o.Same(f); err != nil || same {
		t.Errorf("the name leads elsewhere: %v %v", same, err)
	}
	if got := newOutsider(t).tries(path+"2", "flock", Exclusive); got != "busy" {
		t.Errorf("the file that was parked is not the one that is locked: %s", got)
	}
}

func TestAParkedFileThatHasBecomeAProgramIsOpenedAnew(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("no sleep(1)")
	}
	text, err := os.ReadFile(sleep)
	must(t, err)
	path := newFile(t, publicDir(t)+"/file")
	must(t, os.WriteFile(path, text, 0o644))
	o := newOpener(t, path)
	f := open(t, o, path)
	f.Park()
	must(t, os.Chmod(path, 0o755))
	cmd := exec.Command(path, "1000")
	must(t, cmd.Start())
	wantError(t, f.TryLock(Exclusive), ErrReopen, "open for writing while it runs")
	must(t, cmd.Process.Kill())
	cmd.Wait()
}

func TestDirectoriesAndHeldFilesAreNotParked(t *testing.T) {
	dir := publicDir(t)
	path := newFile(t, dir+"/file")
	o := newOpener(t, dir)
	d, f := open(t, o, dir), open(t, o, path)
	must(t, f.TryLock(Exclusive))
	for _, f := range []*File{d, f} {
		f.Park()
		if f.parked {
			t.Errorf("%s is parked", f.Path)
		}
	}
	if got := newOutsider(t).tries(path, "flock", Exclusive); got != "busy" {
		t.Errorf("flock is %s", got)
	}
}

// Whose open meets a lease of ours for that one moment sends us SIGIO, waits, and notices nothing; neither do we.
func TestManyProbesAndOpensHarmNobody(t *testing.T) {
	f := idleFile(t)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGIO) // to know that the test bites; without it the runtime drops them, as in lockerd
	var openers sync.WaitGroup
	over := make(chan struct{})
	for range 2 {
		p := newOutsider(t)
		openers.Go(func() {
			if got := p.ask("open-often", "20000", f.Path); got != "ok" {
				t.Errorf("an opener: %s", got)
			}
		})
	}
	openers.Go(func() { // ours never wait, and are not called busy either
		o := &Opener{roots: newOpener(t, f.Path).roots, mounts: newMountTable(), tested: newSelfTests(), probes: f.probes}
		for range 5000 {
			g, err := o.Open(f.Path, Want{Mode: Exclusive})
			if err != nil {
				t.Errorf("our own open: %v", err)
				return
			}
			g.Close()
		}
	})
	go func() { openers.Wait(); close(over) }()
	idle, used, signaled := 0, 0, false
	for running := true; running || !signaled && idle == 0; {
		switch err := f.TryLock(Exclusive); err {
		case nil:
			idle++
			must(t, f.Unlock())
		case ErrInUse:
			used++
		default:
			t.Fatal(err)
		}
		select {
		case <-over:
			running = false
		case <-signals:
			if !signaled {
				signaled = true
				signal.Stop(signals)
			}
		default:
		}
	}
	t.Logf("idle %d times, in use %d times, SIGIO %v", idle, used, signaled)
	if idle == 0 || used == 0 {
		t.Errorf("idle %d times, in use %d times: nobody met anybody", idle, used)
	}
	locksIdle(t, f)
}

func TestWhoHasItOpenIsNamed(t *testing.T) {
	f := idleFile(t)
	uids := []int{-1}
	if os.Geteuid() == 0 {
		must(t, os.Chmod(f.Path, 0o666))
		uids = append(uids, nobodys)
	}
	for _, uid := range uids {
		for _, c := range []struct {
			opens, locks string
			want         Holder
		}{
			{"ro", "", Holder{Engine: OnlyOpen, Mode: Shared}},
			{"rw", "", Holder{Engine: OnlyOpen, Mode: Exclusive}},
			{"rw", "flock", Holder{Engine: "flock", Mode: Exclusive}},
			{"rw", "posix", Holder{Engine: "posix", Mode: Exclusive}},
			{"path", "", Holder{}},
		} {
			p, keeper := newOutsiderAs(t, uid), newOutsider(t)
			p.does("open", c.opens, f.Path)
			keeper.does("open", "rw", f.Path)
			if c.locks != "" {
				p.does(c.locks, "exclusive")
			}
			var want []Holder
			if h := c.want; h.Engine != "" {
				h.PID, h.UID, h.Command = int32(p.pid()), uint32(max(uid, os.Geteuid())), "exe"
				want = append(want, h)
			}
			got, err := outsiders(f.ID, true, enoughTime, os.Getpid(), keeper.pid())
			must(t, err)
			for i := range got {
				got[i].Command = "exe"
			}
			if !slices.Equal(got, want) {
				t.Errorf("uid %d %s %s: got %+v, want %+v", uid, c.opens, c.locks, got, want)
			}
			if c.locks == "" && len(outside(t, f.ID)) != 0 {
				t.Errorf("%s: holds no lock", c.opens)
			}
			p.end()
			keeper.end()
		}
	}
}
