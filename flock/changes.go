package flock

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Changes notices that held files are deleted, renamed or replaced, which no lock prevents. One serves the whole process: it owns one
// inotify(7) instance, apart from Waiter's, and one goroutine that reads it, from NewChanges to Close. Safe for concurrent use.
//
// Of a file it is the inode itself that is watched; of a bundle its directory, and bands and mapped in it. The directory is found by name
// and known by the token in it; it is not read, which would change its time.
type Changes struct {
	tell   func(id uint64, a Alteration)
	events *os.File
	raw    syscall.RawConn
	fd     int           // of events: os.File.Fd would make it blocking
	closed chan struct{} // closed by Close
	read   chan struct{} // closed when the reader has ended

	// mu guards what follows. It is held across calls on the inotify instance, and fstat(2) of held files, which wait for no file system:
	// network files are not watched.
	mu     sync.Mutex
	inodes map[int32]*inode // by watch descriptor: the kernel has one for each inode
	holds  map[uint64]*watched
	dirty  []*watched // since they were told last
	buf    []byte
	ended  bool
}

// The kernel's queue is left alone between two reads, so that a storm of events costs us a bounded part of a processor.
const (
	readPause  = 5 * time.Millisecond
	readBuffer = 64 << 10 // bytes; the smallest event with a name has 32
)

// NewChanges starts the reader; Close ends it. tell is called by the reader when a hold's files have been altered, with all that is known
// since the Watch, and may come once more after the Unwatch. It must not call Watch or Unwatch.
func NewChanges(tell func(id uint64, a Alteration)) (*Changes, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	c := &Changes{
		tell: tell, events: os.NewFile(uintptr(fd), "inotify"), fd: fd,
		closed: make(chan struct{}), read: make(chan struct{}),
		inodes: map[int32]*inode{}, holds: map[uint64]*watched{}, buf: make([]byte, readBuffer),
	}
	if c.raw, err = c.events.SyscallConn(); err != nil {
		c.events.Close()
		return nil, err
	}
	go c.reader() // joined in Close
	return c, nil
}

// Close ends all watches and the reader. It may be called more than once.
func (c *Changes) Close() error {
	c.mu.Lock()
	first := !c.ended
	c.ended = true
	c.mu.Unlock()
	if !first {
		<-c.read
		return nil
	}
	close(c.closed)
	err := c.events.Close() // wakes the reader: the descriptor is in the runtime's poller
	<-c.read
	return err
}

// MaxWatches is how many watches the kernel allows all processes of our uid together; 8,192, as it did before it went by memory, if it
// does not say.
//
// Privileged: reads a number of the kernel's.
func MaxWatches() int {
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return 8192
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 8192
	}
	return n
}

// Watch watches what belongs to f, which is held under id, until Unwatch. Only what happens from here on is told, and, unless that is
// known, that f's name leads elsewhere by now. held is asked with all paths walked: once it is false f is not touched any more. An error
// says that nothing, or not all of it, is watched.
//
// Privileged: f is an attacker's file, already open, and its directory is his, too: it is walked to as it was opened, and counts only
// while the very token is in it. Nothing is opened for real.
func (c *Changes) Watch(o *Opener, f *File, id uint64, known bool, held func() bool) error {
	if o.MayHang(f) {
		return errors.New("it is on a network file system")
	}
	dir := -1
	var inside []int
	if f.Bundle {
		dir, inside = o.bundleOf(f)
		defer closeAll(append(inside, dir))
	}
	err := c.enter(f, id, held, dir, inside)
	if err == nil && !known {
		// Only now: what is renamed from here on makes an event.
		if same, lookErr := o.LeadsTo(f.Target, f.ID); lookErr == nil && !same {
			c.note(id)
		}
	}
	if err == nil && f.Bundle && dir < 0 {
		return errors.New("its bundle is not where it was")
	}
	return err
}

// bundleOf opens O_PATH the directory of the bundle that the token f is in, and those in it, in the order of bundleDirs without those that
// are not there; -1 if it is somewhere else by now, or above it is nobody but root.
//
// Privileged: as Watch.
func (o *Opener) bundleOf(f *File) (dir int, inside []int) {
	dir, err := o.dirOf(f)
	if err != nil {
		return -1, nil
	}
	for _, name := range bundleDirs {
		fd, err := openat2(dir, name, beneath)
		if err != nil {
			fd = -1
		}
		inside = append(inside, fd)
	}
	return dir, inside
}

// enter sets the watches: of the bundle's directories, or of f itself.
//
// Privileged: as Watch; descriptors say which inodes, whatever their names lead to now.
func (c *Changes) enter(f *File, id uint64, held func() bool, dir int, inside []int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.holds[id] != nil || !held() {
		return nil
	}
	c.drain() // another hold may have the same inode watched: what is in the queue was before this one
	w := &watched{id: id, fd: -1}
	c.holds[id] = w
	if dir < 0 {
		w.fd = f.fd
		return c.add(w, f.fd, placeFile, "")
	}
	err := c.add(w, dir, placeBundle, "")
	for i, fd := range inside {
		if fd >= 0 && err == nil {
			err = c.add(w, fd, placeInside, bundleDirs[i]+"/")
		}
		if err == unix.ENOTDIR { // a file of that name
			err = nil
		}
	}
	return err
}

// add watches one inode for w. The caller holds mu.
//
// Privileged: as enter.
func (c *Changes) add(w *watched, fd int, p place, prefix string) error {
	// IN_MASK_ADD: the inode may be watched for another hold. ENOSPC: fs.inotify.max_user_watches of our uid are used up. inotify(7)
	n, err := unix.InotifyAddWatch(c.fd, "/proc/self/fd/"+strconv.Itoa(fd), eventsOf(p)|unix.IN_MASK_ADD)
	if err != nil {
		return err
	}
	wd := int32(n)
	k := c.inodes[wd]
	if k == nil {
		k = &inode{wd: wd}
		c.inodes[wd] = k
	}
	if last := len(k.parts) - 1; last >= 0 && k.parts[last].of == w {
		return nil // whoever renames bands to mapped between the two has both names lead to it; deliver counts on one part of each
	}
	k.parts = append(k.parts, part{w, p, prefix})
	w.wds = append(w.wds, wd)
	return nil
}

// note counts that the hold's own name leads elsewhere.
func (c *Changes) note(id uint64) {
	c.mu.Lock()
	if !c.ended {
		c.drain()
	}
	if w := c.holds[id]; w != nil && w.Count == 0 { // else it has been told by an event
		c.count(w, "")
	}
	told := c.take()
	c.mu.Unlock()
	for _, t := range told {
		c.tell(t.id, t.Alteration)
	}
}

// Unwatch ends the watches of a hold, and gives all that has become of its files before, told or not; zero if it is not watched. It comes
// before the file is closed.
func (c *Changes) Unwatch(id uint64) Alteration {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.holds[id]
	if w == nil {
		return Alteration{}
	}
	if !c.ended {
		c.drain() // others' are told by the reader, which the same events have woken
	}
	c.leave(w)
	delete(c.holds, id)
	return w.Alteration
}

// leave takes all watches of w away. The caller holds mu.
func (c *Changes) leave(w *watched) {
	for _, wd := range w.wds {
		k := c.inodes[wd]
		if k == nil || !k.without(w) {
			continue
		}
		delete(c.inodes, wd)
		if !c.ended { // else the descriptor may be somebody else's by now
			unix.InotifyRmWatch(c.fd, uint32(wd)) // EINVAL: the kernel was faster
		}
	}
	w.wds, w.fd = nil, -1
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
