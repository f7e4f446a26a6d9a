package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"locker/flock"
	"locker/keeper"
)

// More entries than one goroutine takes at a time, and no two neighbours alike.
func TestEachEntryIsJudgedByItsOwnDescriptor(t *testing.T) {
	dir := t.TempDir()
	opener, _, err := flock.NewOpener([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	const locked, unlocked, place = 0, 1, 2
	var listed []keeper.Entry
	inodes := map[int]uint64{}
	for i := range 5*examinedAtOnce + 7 {
		e := keeper.Entry{ID: uint64(i) + 1, Lock: -1, Holder: -1}
		if i%3 == place {
			e.ID |= waitBit
			listed = append(listed, e)
			continue
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		e.Lock, inodes[i] = int(f.Fd()), st.Ino
		if i%3 == locked {
			if err := unix.Flock(e.Lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
				t.Fatal(err)
			}
		}
		listed = append(listed, e)
	}
	for i, seen := range examine(opener, listed) {
		if i%3 == place {
			continue
		}
		f, err := seen.Adopt("/a", "/a", flock.Exclusive)
		switch {
		case i%3 == unlocked && !errors.Is(err, flock.ErrNotHeld):
			t.Errorf("entry %d, not locked: %v, want %v", i, err, flock.ErrNotHeld)
		case i%3 == locked && err != nil:
			t.Errorf("entry %d, locked: %v", i, err)
		case i%3 == locked && (f.FD() != listed[i].Lock || f.ID.Ino != inodes[i]):
			t.Errorf("entry %d: got descriptor %d of inode %d, want %d of %d", i, f.FD(), f.ID.Ino, listed[i].Lock, inodes[i])
		}
	}
}
