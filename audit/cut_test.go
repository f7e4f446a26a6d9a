package audit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// platter is a file system that loses power at a call: it remembers what was synced until then. Names that were
// made, moved or removed since the last sync of the directory, and bytes since the last sync of their file, are
// on disk or not as chance has it.
type platter struct {
	FS
	mu    sync.Mutex
	rng   *rand.Rand
	cut   int // the call at which the power goes
	calls int
	now   map[string]*sheet // names as the running process sees them
	disk  map[string]*sheet // names as of the last sync of the directory
}

type sheet struct {
	File
	p      *platter
	text   []byte
	synced []byte
}

var errPower = errors.New("no power")

func (p *platter) wrap(real FS) FS {
	p.FS, p.now, p.disk = real, map[string]*sheet{}, map[string]*sheet{}
	return p
}

// call counts one call; false: there is no power any more.
func (p *platter) call() bool {
	p.calls++
	return p.cut == 0 || p.calls < p.cut
}

func (p *platter) Create(name string, least, most int64) (File, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.call() {
		return nil, 0, errPower
	}
	file, n, err := p.FS.Create(name, least, most)
	s := &sheet{File: file, p: p}
	p.now[name] = s
	return s, n, err
}

func (p *platter) Rename(from, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.call() {
		return errPower
	}
	p.now[to] = p.now[from]
	delete(p.now, from)
	return p.FS.Rename(from, to)
}

func (p *platter) Remove(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.call() {
		return errPower
	}
	delete(p.now, name)
	return p.FS.Remove(name)
}

func (p *platter) Sync() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.call() {
		return errPower
	}
	p.disk = map[string]*sheet{}
	for name, s := range p.now {
		p.disk[name] = s
	}
	return nil
}

func (s *sheet) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if !s.p.call() {
		return 0, errPower
	}
	s.text = append(s.text, b...)
	return s.File.Write(b)
}

func (s *sheet) Sync() error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if !s.p.call() {
		return errPower
	}
	s.synced = slices.Clone(s.text)
	return nil
}

func (s *sheet) Truncate(size int64) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if !s.p.call() {
		return errPower
	}
	s.text = s.text[:min(int(size), len(s.text))]
	return s.File.Truncate(size)
}

// image writes to dir what is on disk after the cut.
func (p *platter) image(t *testing.T, dir string) {
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	put := func(name string, s *sheet) {
		text := slices.Clone(s.synced)
		if len(s.text) > len(s.synced) {
			text = append(text, p.survives(s.text[len(s.synced):])...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range p.disk {
		if p.now[name] == s || p.rng.IntN(2) == 0 {
			put(name, s)
		}
	}
	for name, s := range p.now {
		if p.disk[name] != s && p.rng.IntN(2) == 0 {
			put(name, s)
		}
	}
}

// survives is what is on disk of bytes that were not synced: none, some, or sectors of them in any order.
func (p *platter) survives(rest []byte) []byte {
	rest = slices.Clone(rest[:p.rng.IntN(len(rest)+1)])
	switch p.rng.IntN(4) {
	case 0:
		return nil
	case 1:
		return rest
	case 2: // the size is on disk, the end of what was written is not
		clear(rest[p.rng.IntN(len(rest)+1):])
		return rest
	}
	const sector = 128 // bytes; real ones are longer than what is written here
	for at := 0; at < len(rest); at += sector {
		part := rest[at:min(at+sector, len(rest))]
		switch p.rng.IntN(4) {
		case 0:
			clear(part)
		case 1:
			for i := range part {
				part[i] = byte(p.rng.Uint32())
			}
		}
	}
	return rest
}

func TestAPowerCutAtAnyCallKeepsWhatWasDurable(t *testing.T) {
	rng := seedOf(t)
	dir := quickDir(t)
	runs := 0
	for cut := 1; ; cut++ {
		cut += rng.IntN(stride(3))
		runs++
		over := false
		synctest.Test(t, func(t *testing.T) {
			p := &platter{rng: rng, cut: cut}
			run := filepath.Join(dir, fmt.Sprint("run", cut))
			l, err := Open(Config{Dir: run, GID: -1, SegmentSize: 13 << 10, BootID: bootA, FS: p.wrap})
			durable := map[uint64]bool{}
			var last uint64
			if err == nil {
				for n := range 60 {
					r := grant("/srv/a")
					if n%4 == 1 {
						r.Life, r.Session, r.Request, r.Tag = "attached", 7, uint32(n), ""
					}
					seq, err := l.Append(r)
					if err != nil {
						break
					}
					last = seq
					if wait := n%3 == 0; l.Commit(seq, wait) != nil {
						break
					} else if wait {
						durable[seq] = true
					}
					if n%2 == 0 {
						must(t, l, release(seq))
					}
					if n%20 == 0 {
						<-time.After(flushAfter * 2)
					}
				}
				l.kill()
				over = p.calls < cut
			}
			after := filepath.Join(dir, fmt.Sprint("after", cut))
			p.image(t, after)
			l, err = Open(Config{Dir: after, GID: -1, BootID: bootB, FS: fast})
			if err != nil {
				t.Fatalf("cut at call %d: open: %v", cut, err)
			}
			seq := must(t, l, grant("/srv/next"))
			if seq <= last {
				t.Fatalf("cut at call %d: token %d after %d", cut, seq, last)
			}
			closeLog(t, l)
			for _, r := range recordsIn(t, after) {
				delete(durable, r.Seq)
			}
			if len(durable) > 0 {
				t.Fatalf("cut at call %d: durable records %v are gone", cut, durable)
			}
			verifyClean(t, after)
			os.RemoveAll(run)
			os.RemoveAll(after)
		})
		if over || t.Failed() {
			break
		}
	}
	t.Logf("%d cuts", runs)
}
