package audit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a tmpfs of that many bytes.
func smallDisk(t *testing.T, size string) string {
	needRoot(t, "mount(2)")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size="+size); err != nil {
		if os.Getenv("LOCKER_TEST_ALL") == "" {
			t.Skipf("mount tmpfs: %v", err)
		}
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill writes until there is no space left.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for buf := make([]byte, 64<<10); len(buf) > 0; {
		if _, err := f.Write(buf); errors.Is(err, unix.ENOSPC) {
			buf = buf[:len(buf)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnAFullDiskNoGrantsButReleases(t *testing.T) {
	disk := smallDisk(t, "2m")
	dir := filepath.Join(disk, "audit")
	l := openLog(t, Config{Dir: dir})
	until(t, "a spare", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.spare != nil })
	if h := l.Health(); h.Left > 1<<20 {
		t.Errorf("%d bytes of 2 MiB are taken", h.Left)
	}
	fill(t, filepath.Join(disk, "big"))

	var held []uint64
	full := func() {
		t.Helper()
		for range 1 << 20 {
			id, err := l.Append(grant("/srv/a"))
			if errors.Is(err, ErrFull) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Commit(id, false); err != nil {
				t.Fatalf("commit after %d grants: %v", len(held), err)
			}
			held = append(held, id)
		}
		t.Fatal("never full")
	}
	full()
	t.Logf("%d grants, then %v", len(held), l.Health().Err)
	if len(held) < 300 {
		t.Errorf("only %d grants: the spare was not used", len(held))
	}
	until(t, "a spare is missed", func() bool { return l.Health().SpareErr != nil }) // who makes one finds out by himself
	if h := l.Health(); !errors.Is(h.Err, ErrFull) {
		t.Errorf("health %+v", h)
	}

	// A hostile user's denials cannot eat what is left, nor what he deletes of his holds' files, and every hold can end on file.
	for i := range 20000 {
		if _, err := l.Append(&Record{Event: EventDeny, Path: "/srv/x", Text: "no"}); err != nil {
			t.Fatal(err)
		}
		if seq := must(t, l, &Record{Event: EventAltered, ID: held[i%len(held)], Path: "/srv/a", Count: uint64(i + 1), Text: "bands/1"}); seq != 0 {
			t.Fatal("an alteration is recorded in the room for the ends of holds")
		}
	}
	for _, id := range held {
		r := grant("/srv/a") // as long as the record of the grant
		r.Event, r.ID = EventRelease, id
		seq, err := l.Append(r)
		if err != nil {
			t.Fatalf("release: %v", err)
		}
		if err := l.Commit(seq, true); err != nil {
			t.Fatalf("release of %d of %d is not on file: %v", id, len(held), err)
		}
	}
	if l.State().Len() != 0 {
		t.Errorf("%d holds", l.State().Len())
	}

	// A restart on the full disk loses nothing either.
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	l = openLog(t, Config{Dir: dir})
	if !l.Clean() {
		t.Error("not clean")
	}
	held = nil
	full()

	// Space comes back: grants do, without a restart.
	if err := os.Remove(filepath.Join(disk, "big")); err != nil {
		t.Fatal(err)
	}
	until(t, "healed", func() bool { return l.Health().Err == nil })
	putRec(t, l, grant("/srv/a"), true)
	until(t, "a spare", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.spare != nil })
	must(t, l, &Record{Event: EventStop})
	state := l.State()
	closeLog(t, l)
	sameState(t, "on file", replayAll(t, dir), state)
	verifyClean(t, dir)
}

func TestALogCanBeOpenedOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, "2m")
	fill(t, filepath.Join(disk, "big"))
	dir := filepath.Join(disk, "audit")
	l := openLog(t, Config{Dir: dir})
	if h := l.Health(); !errors.Is(h.Err, ErrFailed) {
		t.Errorf("health %+v", h)
	}
	if _, err := l.Append(grant("/srv/a")); !errors.Is(err, ErrFailed) {
		t.Errorf("grant: %v", err)
	}
	start := must(t, l, &Record{Event: EventStart})
	if err := os.Remove(filepath.Join(disk, "big")); err != nil {
		t.Fatal(err)
	}
	until(t, "healed", func() bool { return l.Health().Err == nil })
	if err := l.Commit(start, true); err != nil {
		t.Error(err)
	}
	putRec(t, l, grant("/srv/a"), true)
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	verifyClean(t, dir)
}

func TestClosedSegmentsGiveTheirReserveBack(t *testing.T) {
	dir := t.TempDir() + "/audit"
	for range 4 {
		l := openLog(t, Config{Dir: dir, SegmentSize: 4 << 20})
		putRec(t, l, grant("/srv/a"), true)
		until(t, "a spare", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.spare != nil })
		l.kill()
	}
	l := openLog(t, Config{Dir: dir, SegmentSize: 4 << 20})
	until(t, "a spare", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.spare != nil })
	closeLog(t, l)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var blocks int64
	for _, file := range files {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, file.Name()), &st); err != nil {
			t.Fatal(err)
		}
		blocks += st.Blocks * 512
	}
	if blocks > 5<<20 { // one spare
		t.Errorf("%d bytes on disk: %v", blocks, files)
	}
}
