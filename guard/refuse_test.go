package guard

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAFileServerIsRefusedWhatIsHeldAndNothingElse(t *testing.T) {
	needGuard(t)
	leaksNothing(t, func(t *testing.T) {
		r := newRig(t).serve()
		smbd := startAs(t, program(t, "fileserver"), "opener")
		restic := startAs(t, program(t, "restic"), "opener")
		held, other := newBundle(t, 3), newBundle(t, 3)
		c := r.denying("/usr/sbin/afpd", smbd.exe)
		wantMarks(t)
		smbd.want(opened, "write", held.band(1))

		held.guard(c, 7)
		wantMarks(t, held.root, filepath.Dir(held.band(0)))
		for _, how := range []string{"read", "write"} {
			smbd.want(refused, how, held.token())
			smbd.want(refused, how, held.band(1))
			smbd.want(opened, how, other.band(1))
			smbd.want(opened, how, other.token())
			restic.want(opened, how, held.band(1))
			restic.want(opened, how, held.token())
		}
		// Bands that come later, whoever makes them.
		restic.want(opened, "create", held.band(100))
		smbd.want(refused, "read", held.band(100))
		smbd.want(refused, "create", held.band(101))
		restic.want(opened, "read", held.band(100))
		// By another way to the same directory.
		link := filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(held.root, link))
		smbd.want(refused, "read", filepath.Join(link, "bands/1"))

		lift(t, c, 7)
		wantMarks(t)
		smbd.want(opened, "write", held.token())
		smbd.want(opened, "write", held.band(100))
		must(t, c.Close())
		r.stop()
		if w := r.warned(); w != "" {
			t.Error(w)
		}
	})
}

func TestTheBrokerIsToldWhoWasRefusedWhere(t *testing.T) {
	needGuard(t)
	r := newRig(t).serve()
	smbd := startAs(t, program(t, "fileserver"), "opener")
	a, b := newBundle(t, 3), newBundle(t, 3)
	c := r.denying(smbd.exe)
	a.guard(c, 1)
	b.guard(c, 1<<63)
	next := func(id uint64) {
		t.Helper()
		e, err := c.Next(soonContext(t))
		if want := (Event{ID: id, PID: int32(smbd.cmd.Process.Pid), Executable: smbd.exe, Count: 1}); err != nil || e != want {
			t.Errorf("event %+v, %v; want %+v", e, err, want)
		}
	}
	smbd.want(refused, "read", b.band(1))
	next(1 << 63)
	smbd.want(refused, "read", a.token())
	next(1)
	// Under a name that the guard has not seen.
	moved := a
	moved.root = filepath.Join(t.TempDir(), "moved.sparsebundle")
	must(t, os.Rename(a.root, moved.root))
	smbd.want(refused, "read", moved.band(1))
	next(1)
}

// A server that tries again and again does not fill the log: what it does is counted, and nothing of it is lost.
func TestRefusalsAreCountedAndNoneIsLost(t *testing.T) {
	needGuard(t)
	r := newRig(t).serve()
	smbd := startAs(t, program(t, "fileserver"), "opener")
	b := newBundle(t, 1)
	c := r.denying(smbd.exe)
	b.guard(c, 5)
	const times = 500
	for range times {
		smbd.want(refused, "read", b.band(0))
	}
	events, sum := 0, 0
	for sum < times {
		e, err := c.Next(soonContext(t))
		must(t, err)
		if e.ID != 5 || e.Executable != smbd.exe {
			t.Fatalf("event %+v", e)
		}
		sum += int(e.Count)
		events++
	}
	if sum != times {
		t.Errorf("%d refusals told of, want %d", sum, times)
	}
	t.Logf("%d refusals in %d events", sum, events)
}

func TestADirectoryIsGuardedAsLongAsOneIdHasIt(t *testing.T) {
	needGuard(t)
	r := newRig(t).serve()
	smbd := startAs(t, program(t, "fileserver"), "opener")
	b := newBundle(t, 1)
	c := r.denying(smbd.exe)
	bands := filepath.Dir(b.band(0))
	b.guard(c, 1)
	b.guard(c, 2)
	wantMarks(t, b.root, bands)
	// A third has one of its directories only, and that twice.
	fd := openDir(t, bands)
	defer unix.Close(fd)
	must(t, c.Guard(soonContext(t), 3, []int{fd, fd}))
	lift(t, c, 1)
	lift(t, c, 1) // which is no error, and does nothing
	wantMarks(t, b.root, bands)
	smbd.want(refused, "read", b.token())
	lift(t, c, 2)
	wantMarks(t, bands)
	smbd.want(opened, "read", b.token())
	smbd.want(refused, "read", b.band(0))
	lift(t, c, 3)
	wantMarks(t)
	smbd.want(opened, "read", b.band(0))
}

func TestAServerWhoseProgramWasReplacedIsStillRefused(t *testing.T) {
	needGuard(t)
	r := newRig(t).serve()
	path := program(t, "fileserver")
	old := startAs(t, path, "opener")
	b := newBundle(t, 1)
	c := r.denying(path)
	b.guard(c, 1)
	must(t, os.Rename(path, path+".new"))
	old.want(opened, "read", b.band(0)) // its program has another name now
	must(t, os.Remove(path+".new"))
	install(t, "/proc/self/exe", path) // another file: what a package upgrade does
	old.want(opened, "read", b.band(0))
	fresh := startAs(t, path, "opener")
	fresh.want(refused, "read", b.band(0))
	must(t, os.Remove(path))
	fresh.want(refused, "read", b.band(0)) // " (deleted)"
	e, err := c.Next(soonContext(t))
	if err != nil || e.Executable != path {
		t.Errorf("event %+v, %v; want of %s", e, err, path)
	}
}

// The guard's own opens, which it could not answer, are never refused: here it is the test's process.
func TestTheGuardIsNotRefusedItself(t *testing.T) {
	needGuard(t)
	r := newRig(t).serve()
	self, err := os.Readlink("/proc/self/exe")
	must(t, err)
	b := newBundle(t, 1)
	c := r.denying(self)
	b.guard(c, 1)
	_, err = os.ReadFile(b.band(0))
	must(t, err)
	other := startAs(t, self, "opener")
	other.want(refused, "read", b.band(0))
}

// What the owner of a bundle can put there to make an open of it wait, stops nobody else.
func TestHostileFilesStopNobody(t *testing.T) {
	needGuard(t)
	leaksNothing(t, func(t *testing.T) {
		r := newRig(t).serve()
		smbd, user, other := startAs(t, program(t, "fileserver"), "opener"), startAs(t, program(t, "user"), "opener"), startAs(t, program(t, "other"), "opener")
		b := newBundle(t, 1)
		fifo, socket, leased := filepath.Join(b.root, "fifo"), filepath.Join(b.root, "socket"), filepath.Join(b.root, "leased")
		must(t, unix.Mkfifo(fifo, 0o644))
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		dir := openDir(t, b.root)
		defer unix.Close(dir)
		must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/socket"}))
		startChild(t, "lessor", leased)
		c := r.denying(smbd.exe)
		b.guard(c, 1)
		user.ask("read", fifo) // waits for a writer, but not for us
		for range 20 {
			if got := other.open("read", socket); got == opened {
				t.Error("a socket was opened")
			}
			other.want(opened, "read", b.band(0))
			smbd.want(refused, "read", b.band(0))
		}
		// The kernel cannot open a leased file for the guard, and refuses whoever it is: see doc.go.
		other.want(refused, "read", leased)
		other.want(opened, "read", b.band(0))
		smbd.want(refused, "read", b.band(0))
		user.kill()
		must(t, c.Close())
		r.stop()
		if w := r.warned(); w != "" {
			t.Error(w)
		}
	})
}

func TestWhatCannotBeGuardedIsRefusedWithTheReason(t *testing.T) {
	needGuard(t)
	leaksNothing(t, func(t *testing.T) {
		r := newRig(t).serve()
		b := newBundle(t, 1)
		dir := openDir(t, b.root)
		defer unix.Close(dir)
		file, err := unix.Open(b.token(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(file)
		path, err := unix.Open(filepath.Dir(b.band(0)), unix.O_PATH|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(path)
		c := r.dial()
		ctx := soonContext(t)
		if err := c.Guard(ctx, 1, []int{dir}); !errors.Is(err, errOrder) {
			t.Errorf("guard before deny: %v", err)
		}
		must(t, c.Deny(ctx, []string{"/usr/sbin/smbd"}))
		if err := c.Deny(ctx, []string{"/usr/sbin/smbd"}); !errors.Is(err, errOrder) {
			t.Errorf("deny twice: %v", err)
		}
		for _, fds := range [][]int{{file}, {path}, {dir, file}, {dir, path}} {
			if err := c.Guard(ctx, 1, fds); !errors.Is(err, ErrUnfit) {
				t.Errorf("guard %v: %v", fds, err)
			}
			wantMarks(t)
		}
		must(t, c.Guard(ctx, 1, []int{dir}))
		if err := c.Guard(ctx, 1, []int{dir}); !errors.Is(err, ErrHeld) {
			t.Errorf("guard twice: %v", err)
		}
		if err := c.Guard(ctx, 2, []int{file}); !errors.Is(err, ErrUnfit) {
			t.Errorf("guard a file beside: %v", err)
		}
		wantMarks(t, b.root)
		must(t, c.Ping(ctx))
	})
}

// Beyond its descriptors the guard refuses to guard, and goes on with what it has.
func TestAGuardWithoutRoomSaysSo(t *testing.T) {
	needGuard(t)
	r := newRig(t).serve()
	smbd := startAs(t, program(t, "fileserver"), "opener")
	b := newBundle(t, 1)
	c := r.denying(smbd.exe)
	b.guard(c, 1)
	fds := b.dirs()
	defer closeAll(fds)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: reserve + 3, Max: old.Max}))
	err := c.Guard(soonContext(t), 2, fds)
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	if !errors.Is(err, ErrFull) {
		t.Errorf("guard beyond the room: %v", err)
	}
	smbd.want(refused, "read", b.band(0))
	must(t, c.Guard(soonContext(t), 2, fds))
}

// A limit that was lowered meanwhile costs that Guard, and not the connection.
func TestAGuardThatCannotTakeDescriptorsSaysSo(t *testing.T) {
	needGuard(t)
	g, path, _ := guardChild(t, time.Hour, "")
	c := dialGuard(t, path)
	must(t, c.Deny(soonContext(t), []string{"/usr/sbin/smbd"}))
	b := newBundle(t, 1)
	fds := b.dirs()
	defer closeAll(fds)
	many := slices.Repeat(fds, MaxDirs/2)
	names, err := os.ReadDir("/proc/" + strconv.Itoa(g.cmd.Process.Pid) + "/fd")
	must(t, err)
	var old unix.Rlimit
	must(t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &old))
	must(t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(names)) + 3, Max: old.Max}, nil))
	err = c.Guard(soonContext(t), 1, many)
	must(t, unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &old, nil))
	if !errors.Is(err, ErrFull) {
		t.Errorf("guard: %v", err)
	}
	must(t, c.Guard(soonContext(t), 1, many))
	lift(t, c, 1)
	after, err := os.ReadDir("/proc/" + strconv.Itoa(g.cmd.Process.Pid) + "/fd")
	must(t, err)
	if len(after) != len(names) {
		t.Errorf("the guard had %d descriptors, and has %d", len(names), len(after))
	}
}

// An event whose file the kernel cannot open reads as EAGAIN, as an empty queue does, and what is behind it wakes nobody again.
func TestAnEventThatCannotBeReadHidesNoOther(t *testing.T) {
	needGuard(t)
	r := newRig(t)
	judging, release := make(chan bool, 1), make(chan struct{})
	judging <- true
	r.s.judging = func() {
		select {
		case <-judging:
			<-release
		default:
		}
	}
	r.serve()
	first, second, third := startAs(t, program(t, "a"), "opener"), startAs(t, program(t, "b"), "opener"), startAs(t, program(t, "c"), "opener")
	b := newBundle(t, 1)
	leased := filepath.Join(b.root, "leased")
	startChild(t, "lessor", leased)
	c := r.denying("/usr/sbin/smbd")
	b.guard(c, 1)
	first.ask("read", b.band(0))
	first.waitBlocked()
	second.ask("read", leased)
	second.waitBlocked()
	third.ask("read", b.band(0))
	third.waitBlocked()
	close(release)
	for who, want := range map[*child]string{first: opened, second: refused, third: opened} {
		if got := who.line(); got != want {
			t.Errorf("%s: %s; want %s", who.exe, got, want)
		}
	}
}
