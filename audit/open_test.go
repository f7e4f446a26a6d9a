package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestASecondLockerdIsRefusedNamingTheFirst(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir})
	_, err := Open(Config{Dir: dir, GID: -1})
	if !errors.Is(err, ErrInUse) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Errorf("second open: %v", err)
	}
	putRec(t, l, grant("/srv/a"), true)
	closeLog(t, l)
	closeLog(t, openLog(t, Config{Dir: dir}))
	verifyClean(t, dir)
}

func TestTheGroupReadsAndNobodyElseDoes(t *testing.T) {
	gid := -1
	if os.Geteuid() == 0 {
		gid = 4
	}
	dir := t.TempDir() + "/audit"
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	l, err := Open(Config{Dir: dir, GID: gid, SegmentSize: 13 << 10})
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		putRec(t, l, release(putRec(t, l, grant("/srv/a"), false)), false)
	}
	l.kill()
	files := segmentFiles(t, dir)
	f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("torn"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l = openLog(t, Config{Dir: dir, GID: gid, SegmentSize: 13 << 10})
	until(t, "a spare", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.spare != nil })
	check := func(path string, want uint32) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode&0o7777 != want || int(st.Uid) != os.Geteuid() || gid >= 0 && int(st.Gid) != gid && want != lockMode {
			t.Errorf("%s: mode %o uid %d gid %d, want mode %o gid %d", path, st.Mode&0o7777, st.Uid, st.Gid, want, gid)
		}
	}
	check(dir, dirMode)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range entries {
		want := uint32(fileMode)
		if e.Name() == lockName {
			want = lockMode
		}
		check(filepath.Join(dir, e.Name()), want)
		kinds[e.Name()[:4]]++
		if strings.Contains(e.Name(), tornInfix) {
			kinds["torn"]++
		}
	}
	if kinds["lock"] != 1 || kinds["seg-"] < 3 || kinds["spar"] != 1 || kinds["torn"] != 1 {
		t.Errorf("files: %v", entries)
	}
}

func TestADirectoryThatIsNotOursIsRefused(t *testing.T) {
	base := t.TempDir()
	link := base + "/link"
	if err := errors.Join(os.Mkdir(base+"/real", 0o750), os.Symlink(base+"/real", link), os.WriteFile(base+"/file", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, base + "/file", base + "/file/audit"} {
		if l, err := Open(Config{Dir: path, GID: -1}); err == nil {
			t.Errorf("%s is taken", path)
			l.Close()
		}
	}
	if err := os.Mkdir(base+"/wide", 0o777); err != nil {
		t.Fatal(err)
	}
	closeLog(t, openLog(t, Config{Dir: base + "/wide"}))
	if st, err := os.Stat(base + "/wide"); err != nil || st.Mode().Perm() != dirMode {
		t.Errorf("a directory that others may write stays so: %v %v", st.Mode(), err)
	}
	t.Run("foreign", func(t *testing.T) {
		needRoot(t, "chown")
		foreign := base + "/foreign"
		if err := errors.Join(os.Mkdir(foreign, 0o700), os.Chown(foreign, 65533, 65533)); err != nil {
			t.Fatal(err)
		}
		if l, err := Open(Config{Dir: foreign, GID: -1}); err == nil {
			t.Error("a directory of uid 65533 is taken by root")
			l.Close()
		} else {
			t.Log(err)
		}
	})
}

func TestAStopIsTheLastRecordHoweverFullTheSegmentIs(t *testing.T) {
	dir := t.TempDir() + "/audit"
	for n := range 60 { // at some of them the stop record is what fills the segment
		l := openLog(t, Config{Dir: dir, SegmentSize: 13 << 10, FS: fast})
		if !l.Clean() {
			t.Fatalf("not clean after %d records", n-1)
		}
		for range n {
			must(t, l, &Record{Event: EventPolicy, Text: "some text"})
		}
		must(t, l, &Record{Event: EventStop})
		closeLog(t, l)
		if rep := verifyClean(t, dir); !rep.Clean {
			t.Fatalf("verify: not clean after %d records", n)
		}
	}
	l := openLog(t, Config{Dir: dir, FS: fast})
	l.kill()
	if rep := verifyClean(t, dir); rep.Clean {
		t.Error("a run that was killed at its start is clean")
	}
	if l = openLog(t, Config{Dir: dir, FS: fast}); l.Clean() {
		t.Error("a run that was killed at its start was clean")
	}
}

// A file planted where a segment is to be made is neither followed nor written.
func TestPlantedNamesAreNeverWritten(t *testing.T) {
	dir := t.TempDir() + "/audit"
	victim := t.TempDir() + "/victim"
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Mkdir(dir, 0o750),
		os.Symlink(victim, filepath.Join(dir, segName(1))+".x"), os.Symlink(victim, dir+"/spare-1")); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, Config{Dir: dir}) // removes the spare of an earlier run, not what it leads to
	putRec(t, l, grant("/srv/a"), true)
	closeLog(t, l)
	if err := os.Symlink(victim, filepath.Join(dir, segName(1<<40))); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(Config{Dir: dir, GID: -1, AcceptBroken: true}); err == nil {
		t.Error("a symlink is read as a segment")
		l.Close()
	}
	if err := os.Remove(filepath.Join(dir, segName(1<<40))); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, segName(1<<40)), 0o640); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(Config{Dir: dir, GID: -1, AcceptBroken: true}); err == nil {
		t.Error("a FIFO is read as a segment")
		l.Close()
	}
	if _, err := Verify(dir); err == nil {
		t.Error("a FIFO verifies")
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("victim: %q %v", text, err)
	}
}

func TestNothingOfALogOutlivesClose(t *testing.T) {
	fds := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	dir := t.TempDir() + "/audit"
	before := fds()
	for range 3 {
		l := openLog(t, Config{Dir: dir, SegmentSize: 13 << 10})
		for range 60 {
			putRec(t, l, release(putRec(t, l, grant("/srv/a"), false)), false)
		}
		closeLog(t, l)
		if _, err := l.Append(grant("/srv/a")); !errors.Is(err, ErrClosed) {
			t.Errorf("append: %v", err)
		}
		if err := l.Commit(l.Health().Seq, true); err != nil {
			t.Errorf("commit of what is on disk: %v", err)
		}
		if err := l.Close(); !errors.Is(err, ErrClosed) {
			t.Errorf("close again: %v", err)
		}
		if _, err := Open(Config{Dir: dir + "/nowhere/" + strings.Repeat("x", 300), GID: -1}); err == nil {
			t.Error("a name of 300 bytes opens")
		}
	}
	if after := fds(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
