package flock

import (
	"encoding/hex"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const nobodys = 65533 // a uid that nobody has

// enoughTime is for a search that is not asked how long it takes: what others have open on the machine is not to cut it off.
var enoughTime = searchTime{time.Minute, time.Minute}

func outside(t testing.TB, id ID) []Holder {
	t.Helper()
	holders, err := outsiders(id, false, enoughTime, os.Getpid())
	must(t, err)
	return holders
}

func TestHoldersOutsideAreNamed(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	must(t, os.Chmod(path, 0o666))
	f := open(t, newOpener(t, path), path)
	uids := []int{-1}
	if os.Geteuid() == 0 {
		uids = append(uids, nobodys)
	}
	for _, uid := range uids {
		for _, kind := range []string{"flock", "ofd", "posix"} {
			for _, m := range []Mode{Exclusive, Shared} {
				p := newOutsiderAs(t, uid)
				if holders := outside(t, f.ID); len(holders) != 0 {
					t.Errorf("nobody holds it, but %+v", holders)
				}
				p.does("open", "rw", path)
				p.does(kind, m.String())
				comm, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid()) + "/comm")
				must(t, err)
				asUID := uint32(max(uid, os.Geteuid())) // -1 is ours
				want := []Holder{{int32(p.pid()), asUID, string(comm[:len(comm)-1]), kind, m, netip.Addr{}}}
				if got := outside(t, f.ID); !slices.Equal(got, want) {
					t.Errorf("uid %d %s %s: got %+v, want %+v", uid, kind, m, got, want)
				}
				p.end()
			}
		}
	}
}

func TestSeveralHoldersAreAllNamed(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	want := make(map[int32]bool)
	for _, kind := range []string{"flock", "flock", "ofd", "ofd", "posix", "posix"} {
		p := newOutsider(t)
		p.does("open", "rw", path)
		p.does(kind, "shared")
		want[int32(p.pid())] = true
	}
	got := outside(t, f.ID)
	for _, h := range got {
		if !want[h.PID] {
			t.Errorf("%+v is no holder, or named twice", h)
		}
		delete(want, h.PID)
	}
	if len(want) != 0 {
		t.Errorf("not named: %v, in %+v", want, got)
	}
}

// flock(1) on a descriptor that a shell opened: who took the lock is gone, who holds it is not.
func TestHolderIsWhoHasTheDescriptorNow(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	p := newOutsider(t)
	p.does("open", "rw", path)
	p.does("flock-by-child", "exclusive")
	wantError(t, f.TryLock(Exclusive), ErrBusy, "lock")
	got := outside(t, f.ID)
	if len(got) != 1 || got[0].PID != int32(p.pid()) || got[0].Engine != "flock" || got[0].Mode != Exclusive {
		t.Errorf("got %+v, want pid %d", got, p.pid())
	}
}

func TestLeaseHolderIsNamed(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	p := newOutsider(t)
	p.does("open", "rw", path)
	p.does("lease")
	for range 2 { // the second time it is being broken, by our open
		got := outside(t, ID{st.Dev, st.Ino})
		if len(got) != 1 || got[0].PID != int32(p.pid()) || got[0].Engine != "lease" || got[0].Mode != Exclusive {
			t.Errorf("got %+v, want pid %d", got, p.pid())
		}
		_, err := newOpener(t, path).Open(path, Want{Mode: Exclusive})
		wantError(t, err, ErrBusy, "open")
	}
}

func TestOwnHoldsAreNotOutside(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := openAs(t, newOpener(t, path), path, Want{Mode: Exclusive, Engines: BSD})
	must(t, f.TryLock(Exclusive))
	if got := outside(t, f.ID); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	if got, err := outsiders(f.ID, false, enoughTime, 1); err != nil || len(got) != 1 || got[0].PID != int32(os.Getpid()) {
		t.Errorf("as seen by another: %+v, %v", got, err)
	}
}

func TestClaimThatWaitsHoldsNothing(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	must(t, f.TryLock(Exclusive))
	other := openAs(t, newOpener(t, path), path, Want{Mode: Exclusive, Engines: BSD})
	done := make(chan error)
	go func() { done <- unix.Flock(other.FD(), unix.LOCK_EX) }()
	eventually(t, "it waits", func() bool {
		text, err := os.ReadFile("/proc/locks")
		must(t, err)
		return len(linesOfInode(text, f.ID.Ino)) == 2 && slices.ContainsFunc(splitLines(text), func(l string) bool {
			_, ok := parseLockLine(l)
			return !ok && len(l) > 0
		})
	})
	if got, err := outsiders(f.ID, false, enoughTime, 1); err != nil || len(got) != 2 { // flock, ofd
		t.Errorf("got %+v, %v", got, err)
	}
	must(t, f.Unlock())
	must(t, <-done)
}

func TestCommandIsRawAndCannotForgeALine(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	for _, name := range []string{"a) S 1 1", "new\nUid:\t0\t0", "lock:\t1: FLOCK", "\xff\xfe\x1b[2J", "trailing\n", " ", "x) \n("} {
		p := newOutsider(t)
		p.does("name", hex.EncodeToString([]byte(name)))
		p.does("open", "rw", path)
		p.does("flock", "exclusive")
		got := outside(t, f.ID)
		if len(got) != 1 || got[0].Command != name || got[0].UID != uint32(os.Geteuid()) {
			t.Errorf("named %q: got %+v", name, got)
		}
		p.end()
	}
}

// Whatever others have opened, and even if nobody can be found.
func TestSearchIsBounded(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, used := time.Now(), ProcessorTime()
	s := &search{}
	for _, end := range []search{
		{deadline: now.Add(-time.Second), began: used + time.Hour},
		{deadline: now.Add(time.Hour), began: used - outsideTime},
	} {
		s = &search{id: ID{1, 2}, deadline: end.deadline, began: end.began, atMost: outsideTime, looked: outsideLeast, buf: make([]byte, outsideFdinfo)}
		s.lines = []lockLine{{kind: "OFDLCK", mode: Exclusive, pid: -1, dev: 1, ino: 2}}
		s.askAll()
		if len(s.holders) != 0 || len(s.lines) != 1 || s.looked != outsideLeast {
			t.Errorf("after the end of its time: %v, %d locks left, looked at %d", s.holders, len(s.lines), s.looked)
		}
	}
	for i := range int32(1000) {
		s.found(Holder{PID: i})
	}
	if len(s.holders) != outsideHolders {
		t.Errorf("%d holders are returned", len(s.holders))
	}
}

// On a machine that is slow or busy the time may be over before the first process is looked at.
func TestWhoHoldsItIsFoundHoweverBusyTheMachineIs(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	p := newOutsider(t)
	p.does("open", "rw", path)
	p.does("ofd", "exclusive") // of which /proc/locks names nobody
	s := newSearch(f.ID, enoughTime, os.Getpid())
	must(t, s.readLocks())
	must(t, s.keepDevice())
	s.deadline = time.Time{}
	s.looked = -1 << 20 // this machine may have more open than an ordinary one
	s.askNamed()
	s.askAll()
	if len(s.holders) != 1 || s.holders[0].PID != int32(p.pid()) {
		t.Errorf("got %+v, want pid %d", s.holders, p.pid())
	}
}

func TestThousandsOfRangesAreOneHolder(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	p := newOutsider(t)
	p.does("open", "rw", path)
	p.does("ranges")
	other := newOutsider(t)
	other.does("open", "rw", path)
	other.does("flock", "exclusive")
	if got := outside(t, f.ID); len(got) != 2 || got[0].PID+got[1].PID != int32(p.pid()+other.pid()) {
		t.Errorf("got %+v, want %d and %d", got, p.pid(), other.pid())
	}
}

func TestHolderThatCannotBeFoundIsStillSomebody(t *testing.T) {
	if runsAsOrdinaryUser(t) {
		return
	}
	var st unix.Stat_t
	path := newFile(t, publicDir(t)+"/file")
	must(t, unix.Stat(path, &st))
	f := open(t, newOpener(t, path), path)
	must(t, f.TryLock(Exclusive))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := newSearch(f.ID, enoughTime, os.Getpid())
	must(t, s.readLocks())
	must(t, s.keepDevice())
	s.askNamed()
	s.askAll()
	if len(s.lines) != 1 || s.lines[0].engine() != "ofd" {
		t.Errorf("left are %+v", s.lines)
	}
}
