package torture

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	slots   = 8 // client processes
	workers = 3 // goroutines of each that lock, on one connection
	owners  = slots*workers + 1
	files   = 6
	quiet   = 200 // more files, held all the time by the last of the owners
	setMost = 4   // files of one request
)

// word says who owns a file: one request of one worker in one life of one client. 0 is nobody.
type word uint64

const detachedBit = 1 << 63

func makeWord(owner int, life, serial uint32, detached bool) word {
	w := word(owner)<<56 | word(life&0xffffff)<<32 | word(serial)
	if detached {
		w |= detachedBit
	}
	return w
}

func (w word) detached() bool { return w&detachedBit != 0 }
func (w word) owner() int     { return int(w >> 56 & 0x7f) }
func (w word) slot() int      { return w.owner() / workers }
func (w word) life() uint32   { return uint32(w >> 32 & 0xffffff) }
func (w word) serial() uint32 { return uint32(w) }

// tag is what a detached hold is locked under.
func (w word) tag() string { return fmt.Sprintf("t%d.%d.%d", w.owner(), w.life(), w.serial()) }

// wordOfTag reads a tag; ok is false for one that is not ours.
func wordOfTag(tag string) (w word, ok bool) {
	var owner int
	var life, serial uint32
	if _, err := fmt.Sscanf(tag, "t%d.%d.%d", &owner, &life, &serial); err != nil {
		return 0, false
	}
	w = makeWord(owner, life, serial, true)
	return w, w.tag() == tag
}

func (w word) String() string {
	if w == 0 {
		return "nobody"
	}
	kind := "attached"
	if w.detached() {
		kind = "detached"
	}
	return fmt.Sprintf("client %d life %d, worker %d, request %d (%s)", w.slot(), w.life(), w.owner()%workers, w.serial(), kind)
}

// memory is shared by all processes of a run; a file that each maps. It outlives every kill.
type memory struct {
	stop      atomic.Uint32        // let go and end
	condemned [slots]atomic.Uint32 // the last life that was ended; set just before the SIGKILL, so that who finds a dead owner need not guess
	events    atomic.Uint64        // so many were written
	probes    atomic.Uint64
	counts    [slots][countKinds]atomic.Uint64
	file      [files + quiet]fileState
}

// fileState is the ownership of one file.
type fileState struct {
	exclusive atomic.Uint64         // a word
	shared    [owners]atomic.Uint64 // a word of each that reads
	token     [owners]atomic.Uint64 // of the owner's latest claim; valid while its word stands above
	since     [owners]atomic.Int64  // when that was answered
	// The greatest tokens that were seen.
	lastExclusive, lastShared atomic.Uint64
}

// mapMemory maps the file, and makes it if it is new.
func mapMemory(name string) (*memory, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(memory{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", name, err)
	}
	// Page-aligned, and Go's atomics are the machine's own: they work between processes. Never unmapped: goroutines of a run that
	// failed may still look at it.
	return (*memory)(unsafe.Pointer(&data[0])), nil
}

// now is CLOCK_MONOTONIC in nanoseconds, which is the same in all processes. clock_gettime(2).
func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// count is what the clients count.
type count int

const (
	grants count = iota
	grantsShared
	grantsDetached
	grantsSet
	waited
	timeouts
	cancels
	busies
	deadlocks
	refusals // for want of a keeper, or of room in its queue
	inherited
	countKinds
)

func (c count) String() string {
	return [...]string{"grants", "shared", "detached", "of sets", "waited", "timeouts", "cancels", "busy", "deadlocks", "refusals", "inherited"}[c]
}

// total sums up what all clients counted.
func (m *memory) total(c count) (n uint64) {
	for slot := range m.counts {
		n += m.counts[slot][c].Load()
	}
	return n
}
