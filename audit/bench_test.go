package audit

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
)

func BenchmarkAppendLine(b *testing.B) {
	r := grant("/srv/timemachine/alice/MacBook.sparsebundle")
	r.Seq, r.ID, r.Time, r.Boot = 123456, 123456, r.Expires, 1<<40
	r.Prev = fmt.Sprintf("%064x", 1)
	buf := AppendLine(nil, r)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendLine(buf[:0], r)
	}
}

func BenchmarkParseLine(b *testing.B) {
	r := grant("/srv/timemachine/alice/MacBook.sparsebundle")
	r.Seq, r.ID, r.Time, r.Boot = 123456, 123456, r.Expires, 1<<40
	r.Prev = fmt.Sprintf("%064x", 1)
	line := AppendLine(nil, r)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseLine(line); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend is what a caller pays under its own mutex.
func BenchmarkAppend(b *testing.B) {
	l := openLog(b, Config{Dir: b.TempDir() + "/audit"})
	r := &Record{Event: EventDeny, Peer: true, UID: 1000, GID: 1000, User: "alice", PID: 4312, Command: "restic",
		Path: "/srv/timemachine/alice/MacBook.sparsebundle", Mode: "exclusive", Code: "denied", Rule: "archive is read-only"}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		seq, err := l.Append(r)
		if err != nil {
			b.Fatal(err)
		}
		if n++; n%256 == 0 {
			b.StopTimer()
			if err := l.Commit(seq, false); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}

func BenchmarkAppendCommitPair(b *testing.B) {
	l := openLog(b, Config{Dir: b.TempDir() + "/audit"})
	g, r := grant("/srv/timemachine/alice/MacBook.sparsebundle"), release(0)
	b.ReportAllocs()
	for b.Loop() {
		id := putRec(b, l, g, false)
		r.ID = id
		putRec(b, l, r, false)
	}
}

func BenchmarkDurableCommit(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			fs := &counting{}
			l := openLog(b, Config{Dir: b.TempDir() + "/audit", FS: fs.wrap})
			mu := make(chan struct{}, 1)
			b.SetParallelism(max(1, n/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			fs.syncs.Store(0)
			b.RunParallel(func(pb *testing.PB) {
				r := &Record{Event: EventDeny, Peer: true, UID: 1000, GID: 1000, User: "alice", PID: 4312, Command: "restic",
					Path: "/srv/timemachine/alice/MacBook.sparsebundle", Mode: "exclusive", Code: "denied", Rule: "archive is read-only"}
				for pb.Next() {
					mu <- struct{}{}
					seq := must(b, l, r)
					<-mu
					if err := l.Commit(seq, true); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/float64(max(1, fs.syncs.Load())), "records/sync")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, holds := range []int{0, 10000} {
		for _, full := range []bool{false, true} {
			b.Run(fmt.Sprintf("holds=%d/full=%v", holds, full), func(b *testing.B) {
				dir := b.TempDir() + "/audit"
				l := openLog(b, Config{Dir: dir})
				for i := range holds {
					must(b, l, grant(fmt.Sprintf("/srv/timemachine/alice/%d.sparsebundle", i)))
				}
				for full && l.Health().Left > 1<<20 {
					id := putRec(b, l, grant("/srv/timemachine/alice/MacBook.sparsebundle"), false)
					putRec(b, l, release(id), false)
				}
				must(b, l, &Record{Event: EventStop})
				l.Commit(l.seq, true)
				newest := segmentFiles(b, dir)
				keep := newest[len(newest)-1]
				closeLog(b, l)
				b.ResetTimer()
				fd, err := openDirFD(dir)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					s, err := replay(fd, dir, filepath.Base(keep))
					if err != nil || s.damage != nil || s.state.Len() != holds {
						b.Fatal(err, s.damage, s.state.Len())
					}
				}
			})
		}
	}
}

// counting counts fdatasyncs.
type counting struct{ syncs, writes atomic.Int64 }

func (c *counting) wrap(real FS) FS { return countingFS{real, c} }

type countingFS struct {
	FS
	c *counting
}

type countingFile struct {
	File
	c *counting
}

func (f countingFS) Create(name string, least, most int64) (File, int64, error) {
	file, n, err := f.FS.Create(name, least, most)
	return countingFile{file, f.c}, n, err
}

func (f countingFile) Sync() error { f.c.syncs.Add(1); return f.File.Sync() }
func (f countingFile) Write(p []byte) (int, error) {
	f.c.writes.Add(1)
	return f.File.Write(p)
}
