package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const benchBlob = 200 // bytes: about what a hold with a path of 60 has

// BenchmarkPut shows what keeping costs a grant: Put and, beside it, the same bytes in a bare sendmsg(2), with and without the
// descriptors. The other side reads while the clock stands, whenever the queue is full.
func BenchmarkPut(b *testing.B) {
	blob := bytes.Repeat([]byte("x"), benchBlob)
	for _, what := range []string{"bare sendmsg", "bare sendmsg with 2 descriptors", "put", "put and drop"} {
		b.Run(what, func(b *testing.B) {
			broker, end := ends(b)
			fd := file(b, 5)
			c, err := newConn(broker, 0)
			must(b, err)
			defer c.Close()
			in, err := newReceiver(end, false)
			must(b, err)
			bare, err := newSender(broker)
			must(b, err)
			bare.packet = appendMessage(nil, &message{kind: kindPut, id: 1, blob: blob})
			if what == "bare sendmsg with 2 descriptors" {
				bare.oob = unix.UnixRights(fd, fd)
			}
			e := Entry{Blob: blob, Lock: fd, Holder: fd}
			b.ReportAllocs()
			for b.Loop() {
				for {
					var err error
					if strings.HasPrefix(what, "bare") {
						err = bare.raw.Control(bare.try)
						if err == nil && bare.err != nil {
							err = errQueue
						}
					} else {
						e.ID = (e.ID + 1) % 10000
						err = c.Put(e)
						if what == "put and drop" {
							c.Drop(e.ID)
						}
					}
					if err == nil {
						break
					}
					if !errors.Is(err, ErrFull) {
						b.Fatal(err)
					}
					b.StopTimer()
					in.raw.Control(func(fd uintptr) {
						for in.try(fd) {
							for _, fd := range in.takeRights() {
								unix.Close(fd)
							}
						}
					})
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkQueue counts how many entries with two descriptors fit into the queue of a keeper that reads nothing.
func BenchmarkQueue(b *testing.B) {
	for _, size := range []int{0, benchBlob, MaxBlob} {
		b.Run(fmt.Sprintf("blob %d", size), func(b *testing.B) {
			fd := file(b, 5)
			fit := 0
			for b.Loop() {
				broker, end := ends(b)
				c, err := newConn(broker, 0)
				must(b, err)
				e := Entry{Blob: make([]byte, size), Lock: fd, Holder: fd}
				for err = nil; err == nil; err = c.Put(e) {
					e.ID++
				}
				if !errors.Is(err, ErrFull) {
					b.Fatal(err)
				}
				fit = int(e.ID) - 1
				end.Close()
				c.Close()
			}
			b.ReportMetric(float64(fit), "entries")
		})
	}
}

// BenchmarkMemory measures what an entry takes, in the keeper's process and in the broker's Conn.
func BenchmarkMemory(b *testing.B) {
	var limit unix.Rlimit
	must(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	path := filepath.Join(b.TempDir(), "keeper.sock")
	k := startChild(b, "keeper", path)
	c := dialKeeper(b, path)
	n := (int(limit.Cur) - reserve) / maxRights
	if unix.Prlimit(k.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 250_000, Max: 250_000}, nil) == nil {
		n = 100_000
	}
	fd := file(b, 5)
	blob := []byte(strings.Repeat("x", benchBlob))
	must(b, c.Sync(b.Context()))
	before := rss(b, k.cmd.Process.Pid)
	for b.Loop() {
		for id := range n {
			if err := upload(b.Context(), c, Entry{ID: uint64(id), Blob: blob, Lock: fd, Holder: fd}); err != nil {
				b.Fatalf("%v; the keeper says %s", err, k.line())
			}
		}
		must(b, c.Sync(b.Context()))
	}
	b.ReportMetric(float64(rss(b, k.cmd.Process.Pid)-before)/float64(n), "keeper-B/entry")
	// Of a Conn, the ids that it counts.
	before = heap()
	kept := map[uint64]struct{}{}
	for id := range n {
		kept[uint64(id)] = struct{}{}
	}
	b.ReportMetric(float64(heap()-before)/float64(n), "conn-B/entry")
	runtime.KeepAlive(kept)
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// rss is the resident memory of a process in bytes. proc_pid_statm(5)
func rss(b *testing.B, pid int) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	must(b, err)
	var size, pages int
	_, err = fmt.Sscan(string(text), &size, &pages)
	must(b, err)
	return pages * os.Getpagesize()
}
