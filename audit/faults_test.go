package audit

import (
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// fault kinds
type faultKind string

const (
	eio      faultKind = "EIO"            // the call fails and does nothing
	enospc   faultKind = "ENOSPC"         // writes put half in the file first
	short    faultKind = "short write"    // a write says that it wrote less, and did; other calls fail
	syncLost faultKind = "fsync, dropped" // fdatasync fails, and what was not synced is gone
)

// faulty is a file system whose calls number from to to fail.
type faulty struct {
	mu       sync.Mutex
	kind     faultKind
	from, to int
	calls    int
	hits     int
	spared   string   // this call never fails
	chosen   string   // only this call fails
	names    []string // of the calls that failed
}

func (f *faulty) wrap(real FS) FS { return faultyFS{real, f} }

// fails counts a call and says whether it is to fail.
func (f *faulty) fails(call string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls < f.from || f.calls > f.to || call == f.spared || f.chosen != "" && call != f.chosen {
		return false
	}
	if f.kind == syncLost && call != "fdatasync" || f.kind == short && call != "write" {
		return false
	}
	f.hits++
	f.names = append(f.names, call)
	return true
}

func (f *faulty) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from, f.to = 0, 0
}

// fromNow makes all calls fail until heal.
func (f *faulty) fromNow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from, f.to = f.calls+1, 1<<30
}

// only makes all calls of one kind fail until heal.
func (f *faulty) only(call string) {
	f.fromNow()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chosen = call
}

func (f *faulty) made() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *faulty) err() error {
	if f.kind == enospc {
		return unix.ENOSPC
	}
	return unix.EIO
}

type faultyFS struct {
	FS
	f *faulty
}

type faultyFile struct {
	File
	f      *faulty
	end    *int64 // of what was written
	synced *int64
}

func (s faultyFS) Create(name string, least, most int64) (File, int64, error) {
	if s.f.fails("create") {
		return nil, 0, s.f.err()
	}
	file, n, err := s.FS.Create(name, least, most)
	return faultyFile{file, s.f, new(int64), new(int64)}, n, err
}

func (s faultyFS) Rename(from, to string) error {
	if s.f.fails("rename") {
		return s.f.err()
	}
	return s.FS.Rename(from, to)
}

func (s faultyFS) Remove(name string) error {
	if s.f.fails("remove") {
		return s.f.err()
	}
	return s.FS.Remove(name)
}

func (s faultyFS) Stat(name string) (uint64, int64, error) {
	if s.f.fails("stat") {
		return 0, 0, s.f.err()
	}
	return s.FS.Stat(name)
}

func (s faultyFS) Sync() error {
	if s.f.fails("fsync directory") {
		return s.f.err()
	}
	return nil // only real faults count here, see noSync
}

func (s faultyFile) Write(p []byte) (int, error) {
	fails := s.f.fails("write")
	if fails && s.f.kind == eio {
		return 0, s.f.err()
	}
	if fails {
		p = p[:len(p)/2]
	}
	n, err := s.File.Write(p)
	s.f.mu.Lock()
	*s.end += int64(n)
	s.f.mu.Unlock()
	if fails && s.f.kind != short {
		err = s.f.err()
	}
	return n, err
}

func (s faultyFile) Sync() error {
	s.f.mu.Lock()
	end := *s.end
	s.f.mu.Unlock()
	if s.f.fails("fdatasync") {
		if s.f.kind == syncLost {
			_ = s.File.Truncate(*s.synced)
		}
		return s.f.err()
	}
	s.f.mu.Lock()
	*s.synced = end
	s.f.mu.Unlock()
	return nil
}

func (s faultyFile) Truncate(size int64) error {
	if s.f.fails("truncate") {
		return s.f.err()
	}
	s.f.mu.Lock()
	*s.end = min(*s.end, size)
	s.f.mu.Unlock()
	return s.File.Truncate(size)
}

func (f *faulty) String() string {
	return string(f.kind) + " at " + strings.Join(f.names, ", ")
}

// noSync is a disk on which nothing need be waited for: only the power cut decides what is on it.
type noSync struct{ FS }

type noSyncFile struct{ File }

func (noSync) Sync() error     { return nil }
func (noSyncFile) Sync() error { return nil }

func (f noSync) Create(name string, least, most int64) (File, int64, error) {
	file, n, err := f.FS.Create(name, least, most)
	return noSyncFile{file}, n, err
}

func fast(real FS) FS { return noSync{real} }
