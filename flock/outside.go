package flock

import (
	"bytes"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Holder is a process outside the broker that has a file locked, or open.
type Holder struct {
	PID     int32  // -1: somebody, who could not be found
	UID     uint32 // effective; meaningless with PID -1
	Command string // raw bytes of /proc/PID/comm, chosen by the process: the caller escapes them
	Engine  string // "ofd", "flock", "posix" (a classic fcntl lock) or "lease", or OnlyOpen
	Mode    Mode   // without a lock: Exclusive if it may write
	// Client is where the one TCP connection comes from that the process has accepted; not valid: there is none, or several, or it is not known.
	Client netip.Addr
}

// A search costs at most this, whatever the machine's users have opened, and looking for clients 100 ms more; what is not found by then
// has PID -1. What counts is the time of the processor that it takes, since others may keep us off it, and the clock only when that has
// become much. Neither counts before so much is looked at as an ordinary machine has, which takes a tenth of it.
const (
	outsideTime           = 200 * time.Millisecond // of a processor
	outsideClock          = time.Second
	outsideLeast          = 4096 // processes and descriptors, together
	outsideLeastLocks     = 64 << 10
	outsideProcesses      = 4096
	outsideDescriptors    = 4096 // looked at in one process
	outsideHolders        = 16
	outsideLines          = 128      // locks of the file looked into
	outsideFdinfo         = 16 << 10 // bytes read of one descriptor's; its locks come first
	outsideLocks          = 32 << 20 // bytes read of /proc/locks
	descriptorsBetweenNow = 16       // clock readings cost too
)

// OnlyOpen is the Engine of a Holder that has the file open and no lock on it.
const OnlyOpen = "open"

// Outside names the processes other than self that hold locks on a file on which self holds none (an OFD lock does not
// say whose it is). It is for people: a process may end, and its number be taken, while it is read. Where the kernel does
// not let us look (not root: other users' descriptors) the number in /proc/locks is believed, or PID is -1.
//
// Privileged: any user decides how many locks, processes and descriptors there are, and what his process is called.
// Nothing is opened or followed but files of proc: stat(2) on another process's FUSE file could hang.
func Outside(id ID, self int) ([]Holder, error) { return outsiders(id, false, searchAtMost, self) }

// Users is Outside for a file that is to be idle: it names those too who have the file open and no lock on it. ours are the
// processes that are none of these, self first; the others are a keeper's, whose copies may live a moment longer than a hold.
// Who has closed the file and left it mapped is not found, nor is an NFS server in the kernel.
//
// Privileged: as Outside.
func Users(id ID, ours ...int) ([]Holder, error) { return outsiders(id, true, searchAtMost, ours...) }

// searchTime is how long a search may take. Tests that do not ask about that allow more.
type searchTime struct{ processor, clock time.Duration }

var searchAtMost = searchTime{outsideTime, outsideClock}

func outsiders(id ID, opens bool, atMost searchTime, ours ...int) ([]Holder, error) {
	runtime.LockOSThread() // whose time is counted
	defer runtime.UnlockOSThread()
	s := newSearch(id, atMost, ours...)
	s.opens = opens
	if err := s.look(); err != nil {
		return nil, err
	}
	return s.holders, nil
}

// newSearch begins a search of this thread.
func newSearch(id ID, atMost searchTime, ours ...int) *search {
	s := &search{id: id, began: ProcessorTime(), atMost: atMost.processor, deadline: time.Now().Add(atMost.clock), buf: make([]byte, outsideFdinfo)}
	for _, pid := range ours {
		s.ours = append(s.ours, int32(pid))
	}
	return s
}

// look is the whole search.
func (s *search) look() error {
	if err := s.readLocks(); err != nil {
		return err
	}
	if err := s.keepDevice(); err != nil {
		return err
	}
	before := slices.Clone(s.lines)
	s.askNamed()
	if s.wantsMore() {
		s.askAll()
	}
	if len(s.lines) > 0 { // nobody's: perhaps a claim that was undone meanwhile, as ours are that find the file in use
		again := search{id: s.id, began: s.began, atMost: s.atMost, deadline: s.deadline}
		if again.readLocks() == nil && again.keepDevice() == nil {
			s.lines = stillThere(s.lines, before, again.lines)
		}
	}
	for _, l := range s.lines {
		s.found(Holder{PID: -1, Engine: l.engine(), Mode: l.mode})
	}
	s.findClients()
	return nil
}

// stillThere gives those of left, locks that nobody was found to hold, that are there now, too. The others of before are held by who was
// found, so that of now as many are his.
func stillThere(left, before, now []lockLine) (there []lockLine) {
	count := func(lines []lockLine, l lockLine) (n int) {
		for _, m := range lines {
			if m == l {
				n++
			}
		}
		return n
	}
	for _, l := range left {
		if count(there, l) < count(now, l)-(count(before, l)-count(left, l)) {
			there = append(there, l)
		}
	}
	return there
}

type search struct {
	id       ID
	ours     []int32       // the first is ourselves
	opens    bool          // who has it open counts, without a lock too
	began    time.Duration // the thread's ProcessorTime
	atMost   time.Duration // of it
	deadline time.Time
	looked   int        // at processes and descriptors
	lines    []lockLine // of the file, their holders not found yet
	// doubt: the device in a lock line is not st_dev here, so files of several subvolumes look alike.
	doubt   bool
	holders []Holder
	buf     []byte
}

// wantsMore says that there may be somebody who is not found yet.
func (s *search) wantsMore() bool {
	return len(s.lines) > 0 || s.opens && len(s.holders) < outsideHolders
}

func (s *search) late() bool { return s.looked >= outsideLeast && s.timeIsUp() }

func (s *search) timeIsUp() bool {
	return time.Now().After(s.deadline) || ProcessorTime()-s.began > s.atMost
}

// ProcessorTime is what this thread has taken of the processors; of use between runtime.LockOSThread and its end.
func ProcessorTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// readLocks reads the lines about our inode number. The kernel hands out at most a page at a time and counts from the
// start for each, so a machine with a hundred thousand locks is cut off by the clock.
//
// Privileged: any user decides how many lines there are; outsideLines, outsideLocks and the clock bound them.
func (s *search) readLocks() error {
	fd, err := unix.Open("/proc/locks", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return pathError("open", "/proc/locks", err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	have := 0 // an unfinished line from the read before
	for total := 0; total < outsideLocks && (total < outsideLeastLocks || !s.timeIsUp()); {
		n, err := unix.Read(fd, buf[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return pathError("read", "/proc/locks", err)
		}
		total += n
		whole := have + n
		if n > 0 {
			whole = bytes.LastIndexByte(buf[:have+n], '\n') + 1
		}
		for _, l := range linesOfInode(buf[:whole], s.id.Ino) {
			// Two equal OFD lines are two holders; a process may have thousands of ranges, and is one.
			if len(s.lines) < outsideLines && (l.kind != "POSIX" || !slices.Contains(s.lines, l)) {
				s.lines = append(s.lines, l)
			}
		}
		if n == 0 || whole == 0 && have+n == len(buf) {
			break
		}
		have = copy(buf, buf[whole:have+n])
	}
	return nil
}

// keepDevice drops the lines of other file systems. /proc/locks shows the device of the superblock. On btrfs each
// subvolume has an st_dev of its own, which is no superblock's, and on overlayfs a file's may be its layer's: then lines of
// those file systems are kept, in doubt. (An overlay over several file systems also changes inode numbers: nothing is found.)
func (s *search) keepDevice() error {
	exact := func(l lockLine) bool { return l.dev == s.id.Dev }
	if slices.ContainsFunc(s.lines, exact) || len(s.lines) == 0 {
		s.lines = slices.DeleteFunc(s.lines, func(l lockLine) bool { return !exact(l) })
		return nil
	}
	mounts, err := readMountinfo()
	if err != nil {
		return err
	}
	odd := make(map[uint64]bool)
	for _, m := range mounts {
		if m.dev == s.id.Dev {
			s.lines = nil // st_dev is the superblock's: nobody holds the file
			return nil
		}
		if m.fstype == "btrfs" || m.fstype == "overlay" {
			odd[m.dev] = true
		}
	}
	s.doubt = true
	s.lines = slices.DeleteFunc(s.lines, func(l lockLine) bool { return !odd[l.dev] })
	return nil
}

// askNamed looks at the processes that /proc/locks names. A classic fcntl lock is of the process that took it. The others
// are of a description that may have come to somebody else: flock(1) on an inherited descriptor ends at once, and its
// number may be another's by now.
func (s *search) askNamed() {
	for _, l := range slices.Clone(s.lines) {
		switch {
		case s.late():
			return
		case !slices.Contains(s.lines, l): // found on the way
		case l.pid > 0 && l.pid == s.ours[0]:
			s.resolve(l)
		case l.pid <= 0:
		case l.kind == "POSIX" && !s.doubt:
			s.resolve(l)
			s.name(l.pid, l)
		case !s.ask(l.pid) && !s.doubt:
			s.resolve(l) // its descriptors are not for us to see
			s.name(l.pid, l)
		}
	}
}

// askAll goes through all processes until every lock has a holder.
//
// Privileged: any user decides how many there are; outsideProcesses and the clock bound them.
func (s *search) askAll() {
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer dir.Close()
	for seen := 0; seen < outsideProcesses && s.wantsMore(); {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			pid, err := strconv.ParseInt(name, 10, 32)
			if err != nil || slices.Contains(s.ours, int32(pid)) {
				continue
			}
			if seen++; seen > outsideProcesses || !s.wantsMore() || s.late() {
				return
			}
			s.looked++
			s.ask(int32(pid))
		}
		if err != nil {
			return
		}
	}
}

func (s *search) resolve(l lockLine) {
	if i := slices.Index(s.lines, l); i >= 0 {
		s.lines = slices.Delete(s.lines, i, i+1)
	}
}

// found adds a holder. Of one process that has the file both locked and open, the lock is told.
func (s *search) found(h Holder) {
	if h.PID >= 0 {
		same := func(o Holder) bool { return o.PID == h.PID && (o.Engine == OnlyOpen || h.Engine == OnlyOpen) }
		if h.Engine == OnlyOpen && slices.ContainsFunc(s.holders, same) {
			return
		}
		s.holders = slices.DeleteFunc(s.holders, same)
	}
	if len(s.holders) < outsideHolders && !slices.Contains(s.holders, h) {
		s.holders = append(s.holders, h)
	}
}
