package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLockFileHasOneHolderAndNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	fd, before, err := takeLock(path)
	if err != nil || before != -1 {
		t.Fatalf("%d, %v, want that nobody stood there", before, err)
	}
	sign(fd)
	held := heldBy(0)
	if _, _, err := takeLock(path); !errors.As(err, &held) || int(held) != os.Getpid() {
		t.Errorf("a second one got %v, want %v", err, heldBy(os.Getpid()))
	}
	unix.Close(fd)
	fd, before, err = takeLock(path)
	if err != nil || before != os.Getpid() {
		t.Errorf("%d, %v, want %d, who had it", before, err, os.Getpid())
	}
	unix.Close(fd)
	for _, text := range []string{"", "x", "-5", "0", "99999999999999999999"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fd, before, err := takeLock(path)
		if err != nil || before != -1 {
			t.Errorf("with %q in it: %d, %v", text, before, err)
		}
		unix.Close(fd)
	}
}

func TestLookingWhoHasTheLogMakesAndTakesNothing(t *testing.T) {
	dir := t.TempDir()
	if pid := logHolder(dir); pid != 0 {
		t.Errorf("without a log: %d", pid)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("it made %v", entries)
	}
	lock := filepath.Join(dir, "lock")
	fd, _, err := takeLock(lock)
	if err != nil {
		t.Fatal(err)
	}
	sign(fd)
	if pid := logHolder(dir); pid != os.Getpid() {
		t.Errorf("with a holder: %d, want %d", pid, os.Getpid())
	}
	unix.Close(fd)
	if pid := logHolder(dir); pid != 0 {
		t.Errorf("when it is gone: %d", pid)
	}
	if text, _ := os.ReadFile(lock); string(text) != strconv.Itoa(os.Getpid()) {
		t.Errorf("the file holds %q now", text)
	}
	if fd, _, err := takeLock(lock); err != nil {
		t.Errorf("it is still locked: %v", err)
	} else {
		unix.Close(fd)
	}
}

// The group that reads the log has to get there, and nobody else's mode is touched.
func TestStateDirectoryIsMadeSoThatOthersGetThrough(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077)) // as lockerd has it
	top := t.TempDir()
	if err := os.Chmod(top, 0o700); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(top, "p/q/state")
	for range 2 { // the second time it is there
		if err := makeStateDir(state); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]os.FileMode{top: 0o700, top + "/p": 0o755, top + "/p/q": 0o755, state: 0o755} {
			if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, want)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(top, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(filepath.Join(top, "file")); info.Mode().Perm() != 0o600 || unix.Umask(0o077) != 0o077 {
		t.Error("the umask is another afterwards")
	}
	for _, name := range []string{filepath.Join(top, "file"), filepath.Join(top, "file/state")} {
		if err := makeStateDir(name); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v, want that it is no directory", name, err)
		}
	}
}
