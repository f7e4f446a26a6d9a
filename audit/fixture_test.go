package audit

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// needRoot skips a test that only root can run, unless all tests must run.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		t.Fatalf("needs root: %s", why)
	}
	t.Skipf("needs root: %s", why)
}

// stride is 1 when all is to be tried, as before a release; else n, so that each run tries other places, or
// more with -short.
func stride(n int) int {
	switch {
	case os.Getenv("LOCKER_TEST_ALL") != "":
		return 1
	case testing.Short():
		return 5 * n
	}
	return n
}

// quickDir gives a directory on a disk that need not be waited for, if there is one: for tests that open thousands of logs.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "locker-audit-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// seedOf gives a new seed each run, or the one in LOCKER_SEED, and names it when the test fails.
func seedOf(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("LOCKER_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("LOCKER_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// openLog opens a log that is closed at the end of the test, if the test has not done so.
func openLog(t testing.TB, c Config) *Log {
	t.Helper()
	if c.GID == 0 {
		c.GID = -1
	}
	l, err := Open(c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// kill ends a log as SIGKILL would: nothing is flushed, and the directory is free again.
func (l *Log) kill() {
	l.work.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.becomeWriter()
	l.becomeSyncer()
	l.closed = true
	if l.cur != nil {
		l.cur.file.Close()
	}
	if l.spare != nil {
		l.spare.file.Close()
	}
	l.giveSyncer()
	l.giveWriter()
	l.dir.close()
}

func grant(path string) *Record {
	return &Record{
		Event: EventGrant, Peer: true, UID: 1000, GID: 1000, User: "alice", HasLogin: true, LoginUID: 1000,
		PID: 4312, Start: 9911, Command: "restic", Path: path, Dev: 2049, Ino: 77, Mode: "exclusive",
		Rests: []string{"ofd", "flock"}, Life: "detached", Tag: "nightly", Reason: "nightly restic", Rule: "own bundles",
		Expires: time.Date(2031, 1, 2, 3, 4, 5, 6, time.UTC),
	}
}

func release(id uint64) *Record {
	return &Record{Event: EventRelease, ID: id, Peer: true, UID: 1000, GID: 1000}
}

func must(t testing.TB, l *Log, r *Record) uint64 {
	t.Helper()
	seq, err := l.Append(r)
	if err != nil {
		t.Fatalf("append %s: %v", r.Event, err)
	}
	return seq
}

// put appends and commits.
func putRec(t testing.TB, l *Log, r *Record, durable bool) uint64 {
	t.Helper()
	seq := must(t, l, r)
	if err := l.Commit(seq, durable); err != nil {
		t.Fatalf("commit %s %d: %v", r.Event, seq, err)
	}
	return seq
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// sameState compares two states.
func sameState(t testing.TB, what string, got, want *State) {
	t.Helper()
	if id := got.differs(want); id != 0 {
		g, w := got.find(id), want.find(id)
		t.Fatalf("%s: hold %d differs\n got %+v\nwant %+v", what, id, g, w)
	}
}

// replayAll is the state that the records on file give.
func replayAll(t testing.TB, dir string) *State {
	t.Helper()
	s := NewState()
	if err := Read(dir, Filter{}, func(line []byte, r *Record) error { return s.Apply(r) }); err != nil {
		t.Fatalf("replay: %v", err)
	}
	return s
}

// recordsIn are the records on file.
func recordsIn(t testing.TB, dir string) []Record {
	t.Helper()
	var all []Record
	if err := Read(dir, Filter{}, func(line []byte, r *Record) error { all = append(all, *r); return nil }); err != nil {
		t.Fatalf("read: %v", err)
	}
	return all
}

func verifyClean(t testing.TB, dir string) Report {
	t.Helper()
	rep, err := Verify(dir)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	for _, p := range rep.Problems {
		t.Errorf("verify: %s:%d seq %d: %s", p.Segment, p.Line, p.Seq, p.Text)
	}
	if len(rep.Problems) > 0 {
		t.FailNow()
	}
	return rep
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "seg-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// until polls for a condition that a goroutine of the log brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not after a minute: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func dump(dir string) string {
	var b strings.Builder
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		text, _ := os.ReadFile(filepath.Join(dir, f.Name()))
		fmt.Fprintf(&b, "--- %s (%d bytes)\n%s\n", f.Name(), len(text), text)
	}
	return b.String()
}

func crcOf(s string) uint32 { return crc32.Checksum([]byte(s), castagnoli) }
