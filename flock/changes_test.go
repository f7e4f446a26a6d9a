package flock

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// heard keeps what a Changes has told, the latest of each hold.
type heard struct {
	*Changes
	t     testing.TB
	lasts uint64     // of settled
	mu    sync.Mutex // guards told
	told  map[uint64]Alteration
}

func newChanges(t testing.TB) *heard {
	t.Helper()
	h := &heard{t: t, told: map[uint64]Alteration{}}
	var err error
	h.Changes, err = NewChanges(func(id uint64, a Alteration) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told[id] = a
	})
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

func (h *heard) of(id uint64) Alteration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told[id]
}

// watch watches what path leads to, as a hold.
func (h *heard) watch(o *Opener, path string, id uint64) *File {
	h.t.Helper()
	f := open(h.t, o, path)
	must(h.t, h.Watch(o, f, id, false, func() bool { return true }))
	return f
}

// kernelWatches is how many the kernel has for us. proc_pid_fdinfo(5)
func (h *heard) kernelWatches() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", h.fd))
	must(h.t, err)
	return strings.Count(string(text), "inotify wd:")
}

// bundle makes a sparsebundle of the usual parts and some bands.
func bundle(t testing.TB, dir string, bands int) string {
	t.Helper()
	plant(t, dir, "dir b.sparsebundle/bands", "dir b.sparsebundle/mapped", "file b.sparsebundle/token", "file b.sparsebundle/Info.plist", "file other")
	for i := range bands {
		plant(t, dir, fmt.Sprintf("file b.sparsebundle/bands/%x", i))
	}
	return dir + "/b.sparsebundle"
}

// do does in a directory what a line says: "rm a", "mv a b", "touch a", "chmod a", "append a".
func do(t testing.TB, dir string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		words := strings.Split(line, " ")
		name := dir + "/" + words[1]
		switch words[0] {
		case "rm":
			must(t, os.RemoveAll(name))
		case "mv":
			must(t, os.Rename(name, dir+"/"+words[2]))
		case "touch":
			must(t, os.WriteFile(name, nil, 0o644))
		case "chmod":
			must(t, os.Chmod(name, 0o700))
		default:
			t.Fatalf("what is %q", line)
		}
	}
}

func TestWhatBecomesOfAHeldBundleIsToldByName(t *testing.T) {
	for _, c := range []struct {
		acts  string // separated by commas, in the directory that the bundle is in; b. is the bundle
		count uint32
		last  string
	}{
		{"rm b./bands/3", 1, "bands/3"},
		{"mv b./bands/3 b./bands/x", 1, "bands/3"},
		{"mv b./bands/3 x", 1, "bands/3"},
		{"mv b./bands/3 b./bands/4", 1, "bands/3"},
		{"mv other b./bands/4", 1, "bands/4"},
		{"rm b./bands/0,rm b./bands/1,mv b./bands/2 b./mapped/2", 3, "bands/2"},
		{"touch b./mapped/m,rm b./mapped/m", 1, "mapped/m"},
		{"rm b./Info.plist", 1, "Info.plist"},
		{"touch b./t,mv b./t b./Info.plist", 1, "Info.plist"},
		{"rm b./token", 1, "token"},
		{"mv other b./token", 1, "token"},
		{"mv b./token b./x", 1, "token"},
		{"mv b./bands b./old", 1, "bands"},
		{"rm b./bands/3,mv b. moved", 2, ""},
		{"touch b./bands/\x1b\xff,rm b./bands/\x1b\xff", 1, "bands/\x1b\xff"},
		{"touch b./bands/new,chmod b./token,chmod b./bands/1,chmod b./bands,touch other2,rm other2,rm other", 0, ""},
	} {
		t.Run(c.acts, func(t *testing.T) {
			dir := publicDir(t)
			path := bundle(t, dir, 6)
			o, h := newOpener(t, dir), newChanges(t)
			do(t, path, "rm bands/5") // before the hold
			h.watch(o, path, 1)
			do(t, dir, strings.Split(strings.NewReplacer("b./", "b.sparsebundle/", "b. ", "b.sparsebundle ").Replace(c.acts), ",")...)
			got := h.settled(1)
			if got != (Alteration{Count: c.count, Last: c.last}) {
				t.Errorf("told %+v, want %d, last %q", got, c.count, c.last)
			}
		})
	}
}

// settled gives what was told of a hold when all that had happened by now has been read.
func (h *heard) settled(id uint64) Alteration {
	h.t.Helper()
	dir := publicDir(h.t)
	plant(h.t, dir, "file last")
	h.lasts++
	last := h.lasts | 1<<40
	h.watch(newOpener(h.t, dir), dir+"/last", last)
	do(h.t, dir, "rm last")
	eventually(h.t, "the last event is told", func() bool { return h.of(last).Count == 1 })
	h.Unwatch(last)
	return h.of(id)
}

func TestAHeldFileThatLosesItsNameIsTold(t *testing.T) {
	for acts, want := range map[string]uint32{"rm a": 1, "mv a b": 1, "touch b,mv b a": 1, "mv a b,mv b a": 2, "chmod a": 0, "touch a": 0, "touch b,rm b": 0} {
		dir := publicDir(t)
		plant(t, dir, "file a")
		o, h := newOpener(t, dir), newChanges(t)
		h.watch(o, dir+"/a", 1)
		for _, act := range strings.Split(acts, ",") {
			do(t, dir, act)
			h.settled(1) // else the kernel takes two renames in a row for one
		}
		if got := h.settled(1); got != (Alteration{Count: want}) {
			t.Errorf("%s: told %+v, want %d", acts, got, want)
		}
	}
}

func TestANameThatLeadsElsewhereAlreadyIsToldAtOnce(t *testing.T) {
	for _, act := range []string{"rm b.sparsebundle/token", "mv other b.sparsebundle/token", "mv b.sparsebundle x", "rm b.sparsebundle"} {
		dir := publicDir(t)
		path := bundle(t, dir, 1)
		plant(t, dir, "file a")
		o, h := newOpener(t, dir), newChanges(t)
		f := open(t, o, path)
		do(t, dir, act)
		if err := h.Watch(o, f, 1, false, func() bool { return true }); err == nil {
			t.Errorf("%s: the bundle is said to be watched", act)
		}
		if got := h.of(1); got.Count != 1 || got.Last != "" {
			t.Errorf("%s: told %+v", act, got)
		}
		must(t, h.Watch(o, open(t, o, dir+"/a"), 2, true, func() bool { return true }))
		if got := h.of(2); got.Count != 0 {
			t.Errorf("%s: told %+v of a file that is where it was", act, got)
		}
	}
}

func TestNoWatchIsLeftBehindAndNoDescriptor(t *testing.T) {
	dir := publicDir(t)
	path := bundle(t, dir, 1)
	o, h := newOpener(t, dir), newChanges(t)
	b, plain, folder := open(t, o, path), open(t, o, dir+"/other"), open(t, o, path+"/mapped")
	before := descriptors(t)
	for round := range 3 {
		for i, f := range []*File{b, plain, folder} {
			must(t, h.Watch(o, f, uint64(i), false, func() bool { return true }))
		}
		if n, want := h.kernelWatches(), o.Watches(b)+o.Watches(plain); n != want { // mapped is one of the bundle's
			t.Errorf("round %d: %d watches, want %d", round, n, want)
		}
		for i := range uint64(3) {
			h.Unwatch(i)
		}
		if n := h.kernelWatches(); n != 0 || len(h.inodes) != 0 {
			t.Errorf("round %d: %d watches left, %d known", round, n, len(h.inodes))
		}
	}
	sameDescriptors(t, before)
	must(t, h.Watch(o, plain, 9, false, func() bool { return false }))
	if n := h.kernelWatches(); n != 0 {
		t.Errorf("%d watches of what is not held any more", n)
	}
}

func TestWhatWasBeforeAHoldIsNotItsOwn(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "dir d")
	o, h := newOpener(t, dir), newChanges(t)
	first := h.watch(o, dir+"/d", 1)
	h.Changes.mu.Lock() // the reader tells nothing meanwhile
	do(t, dir, "mv d e")
	do(t, dir, "mv e d")
	second := make(chan struct{})
	go func() {
		defer close(second)
		h.Watch(o, first, 2, false, func() bool { return true })
	}()
	h.Changes.mu.Unlock()
	<-second
	if got := h.settled(2); got.Count != 0 {
		t.Errorf("told %+v of what was before", got)
	}
	if got := h.of(1); got.Count == 0 {
		t.Error("nothing told of the first")
	}
	h.Unwatch(1)
	do(t, dir, "mv d e")
	if got := h.settled(2); got.Count != 1 {
		t.Errorf("told %+v, and the other hold ended", got)
	}
}

func TestAFloodIsCutOffAndCostsNobodyElseHisEvents(t *testing.T) {
	dir, quiet := publicDir(t), publicDir(t)
	path := bundle(t, dir, 0)
	plant(t, quiet, "file q")
	o, h := newOpener(t, dir, quiet), newChanges(t)
	h.watch(o, path, 1)
	h.watch(o, quiet+"/q", 2)
	for i := range 10000 {
		do(t, path, fmt.Sprint("touch bands/", i), fmt.Sprint("rm bands/", i))
	}
	if got := h.settled(1); got != (Alteration{Count: maxAlterations, Last: fmt.Sprint("bands/", maxAlterations-1), Missed: true}) {
		t.Errorf("told %+v of the flood", got)
	}
	if n := h.kernelWatches(); n != 1 {
		t.Errorf("%d watches left, want the quiet file's", n)
	}
	do(t, quiet, "rm q")
	if got := h.settled(2); got != (Alteration{Count: 1}) {
		t.Errorf("told %+v of the quiet file", got)
	}
}

func TestEventsThatWereLostAreTold(t *testing.T) {
	dir := publicDir(t)
	path := bundle(t, dir, 1)
	o, h := newOpener(t, dir), newChanges(t)
	h.watch(o, path, 1)
	var event bytes.Buffer
	for _, word := range []uint32{0xffffffff /* -1 */, unix.IN_Q_OVERFLOW, 0, 0} {
		must(t, binary.Write(&event, binary.NativeEndian, word))
	}
	h.Changes.mu.Lock()
	h.deliver(event.Bytes())
	h.Changes.mu.Unlock()
	do(t, path, "rm bands/0")
	if got := h.settled(1); got != (Alteration{Count: 1, Last: "bands/0", Missed: true}) {
		t.Errorf("told %+v", got)
	}
}

// What it costs a grant: beside what a grant does with the kernel anyway.
func BenchmarkWatchAndUnwatch(b *testing.B) {
	dir := publicDir(b)
	path := bundle(b, dir, 1)
	o, h := newOpener(b, dir), newChanges(b)
	aged(b, path+"/token")
	for name, of := range map[string]string{"file": dir + "/other", "bundle": path} {
		for _, watched := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/watched=%v", name, watched), func(b *testing.B) {
				for b.Loop() {
					f, err := o.Open(of, Want{Mode: Exclusive})
					must(b, err)
					must(b, f.TryLock(Exclusive))
					if watched {
						must(b, h.Watch(o, f, 1, false, func() bool { return true }))
						h.Unwatch(1)
					}
					must(b, f.Unlock())
					must(b, f.Close())
				}
			})
		}
	}
}
