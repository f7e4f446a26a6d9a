package audit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// remount makes a file system of smallDisk read-only, or writable again.
func remount(t *testing.T, disk string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|flags, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
}

// As after errors=remount-ro: no grants, but what was held is held and can end, and all is on file when the disk is well.
func TestALogOnAReadOnlyDiskIsOpenedForReleases(t *testing.T) {
	disk := smallDisk(t, "4m")
	for _, how := range []struct {
		name   string
		change func(t *testing.T, dir string)
		whole  bool
	}{
		{"stopped", func(t *testing.T, dir string) {}, true},
		{"torn", func(t *testing.T, dir string) { appendTo(t, segmentFiles(t, dir)[0], "\x00torn") }, false},
		{"headless", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, segName(999)), []byte("headless"), 0o640); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		t.Run(how.name, func(t *testing.T) {
			dir := filepath.Join(disk, strings.ReplaceAll(how.name, " ", "-"))
			l := openLog(t, Config{Dir: dir, BootID: bootA})
			until(t, "a spare", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.spare != nil }) // it will be in the way
			held := putRec(t, l, grant("/srv/a"), true)
			last := putRec(t, l, grant("/srv/b"), true)
			want := l.State()
			if how.name == "stopped" {
				must(t, l, &Record{Event: EventStop})
				closeLog(t, l)
			} else {
				l.kill()
			}
			how.change(t, dir)
			before := dump(dir)
			remount(t, disk, unix.MS_RDONLY)
			t.Cleanup(func() { remount(t, disk, 0) })

			l = openLog(t, Config{Dir: dir, BootID: bootA})
			sameState(t, "replayed", l.Replayed(), want)
			if l.Whole() != how.whole {
				t.Errorf("whole %v", l.Whole())
			}
			if _, err := Open(Config{Dir: dir, GID: -1}); !errors.Is(err, ErrInUse) {
				t.Errorf("second open: %v", err)
			}
			if _, err := l.Append(grant("/srv/c")); !errors.Is(err, ErrFailed) || !errors.Is(err, unix.EROFS) {
				t.Errorf("grant: %v", err)
			}
			if h := l.Health(); !errors.Is(h.Err, unix.EROFS) || !errors.Is(h.SpareErr, unix.EROFS) {
				t.Errorf("health %+v", h)
			}
			end := must(t, l, release(held))
			if end <= last {
				t.Errorf("number %d after %d", end, last)
			}
			if err := l.Commit(end, false); !errors.Is(err, ErrFailed) {
				t.Errorf("commit: %v", err)
			}
			if l.State().Len() != 1 {
				t.Errorf("%d holds", l.State().Len())
			}
			if after := dump(dir); after != before {
				t.Errorf("files changed:\n%s\nto\n%s", before, after)
			}
			remount(t, disk, 0)
			until(t, "healed", func() bool { return l.Health().Err == nil })
			if err := l.Commit(end, true); err != nil {
				t.Error(err)
			}
			if token := putRec(t, l, grant("/srv/c"), true); token <= end {
				t.Errorf("token %d after %d", token, end)
			}
			until(t, "a spare", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.spare != nil })
			must(t, l, &Record{Event: EventStop})
			state := l.State()
			closeLog(t, l)
			sameState(t, "on file", replayLast(t, dir), state)
			if rep, err := Verify(dir); err != nil || how.name != "headless" && len(rep.Problems) > 0 || !rep.Clean {
				t.Errorf("verify: %+v %v", rep, err)
			}
			if entries, err := filepath.Glob(dir + "/spare-*"); err != nil || len(entries) != 1 {
				t.Errorf("spares %v %v", entries, err)
			}
		})
	}
}

func TestAFirstStartOnAReadOnlyDiskIsRefused(t *testing.T) {
	disk := smallDisk(t, "1m")
	for _, dir := range []string{"audit", "empty"} {
		if err := os.Mkdir(filepath.Join(disk, "empty"), dirMode); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		remount(t, disk, unix.MS_RDONLY)
		_, err := Open(Config{Dir: filepath.Join(disk, dir), GID: -1})
		remount(t, disk, 0)
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// A disk that fails at the start is no reason to let go what was held.
func TestALogOnAFailingDiskIsOpenedForReleases(t *testing.T) {
	for _, kind := range []faultKind{eio, short, enospc} {
		dir := t.TempDir() + "/audit"
		l := openLog(t, Config{Dir: dir, FS: fast})
		id := putRec(t, l, grant("/srv/a"), true)
		l.kill()
		f := &faulty{kind: kind}
		f.fromNow()
		l = openLog(t, Config{Dir: dir, FS: f.wrap})
		if _, held := l.State().Get(id); !held || !errors.Is(l.Health().Err, ErrFailed) {
			t.Fatalf("%s: held %v, health %+v", kind, held, l.Health())
		}
		end := must(t, l, release(id))
		f.heal()
		until(t, "healed", func() bool { return l.Health().Err == nil })
		if err := l.Commit(end, true); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		must(t, l, &Record{Event: EventStop})
		closeLog(t, l)
		verifyClean(t, dir)
		if !slices.ContainsFunc(recordsIn(t, dir), func(r Record) bool { return r.Event == EventRelease && r.Seq == end }) {
			t.Errorf("%s: the release is not on file", kind)
		}
	}
	f := &faulty{kind: eio}
	f.fromNow()
	if _, err := Open(Config{Dir: t.TempDir() + "/audit", GID: -1, FS: f.wrap}); !errors.Is(err, unix.EIO) {
		t.Errorf("a first start on a failing disk: %v", err)
	}
}

// replayLast is the state that a start would find.
func replayLast(t *testing.T, dir string) *State {
	t.Helper()
	files := segmentFiles(t, dir)
	fd, err := openDirFD(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s, err := replay(fd, dir, filepath.Base(files[len(files)-1]))
	if err != nil || s.damage != nil {
		t.Fatal(err, s.damage)
	}
	return s.state
}
