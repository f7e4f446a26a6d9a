package guard

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// FAN_UNLIMITED_QUEUE: a queue that is full lets openers pass unasked, so whoever starts 16,384 opens at once could let the
	// file servers in. The kernel keeps an event for each thread that waits in open(2), and no more, so there is an end to it.
	// FAN_UNLIMITED_MARKS: the user's number of marks is shared with every other program of root's. fanotify_init(2)
	groupFlags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS
	// How the kernel opens the file of an event, for us and within our read(2). O_NONBLOCK: the owner of a bundle can put a FIFO
	// there, or a lease on a band, and would stop us for as long as he likes; with it that open fails, and the kernel refuses
	// his opener alone. open(2), fcntl(2)
	eventFlags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_LARGEFILE
	// FAN_OPEN_PERM is asked for execve(2) as well. Without FAN_ONDIR directories are not asked for: their names are no secret.
	mask = unix.FAN_OPEN_PERM | unix.FAN_EVENT_ON_CHILD
)

// group is a fanotify group and the goroutine that answers its events. When its descriptor is closed the kernel lets everybody
// pass who waits for an answer, and all marks are gone. fanotify(7)
type group struct {
	// An os.File, because it closes the descriptor when nobody is within a system call on it, and no earlier: a goroutine that
	// comes back late cannot write its answer to another file that got the same number.
	file *os.File
	raw  syscall.RawConn

	busy   atomic.Bool   // the reader has an event, or is about to
	turns  atomic.Uint64 // of the reader: an event is answered, or none was there
	failed chan error    // the reader has ended, and why; one at most, so that it never blocks
	done   chan struct{} // closed when the reader has ended

	seen  uint64    // turns at the look of since
	since time.Time // the first look that found somebody waiting, in this turn; zero: nobody waits
}

// openGroup opens a group and starts its reader, which is ended and waited for by close.
func openGroup(answer func(event) bool) (*group, error) {
	fd, err := unix.FanotifyInit(groupFlags, eventFlags)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	g := &group{file: os.NewFile(uintptr(fd), "fanotify"), failed: make(chan error, 1), done: make(chan struct{})}
	if g.raw, err = g.file.SyscallConn(); err != nil {
		g.file.Close()
		return nil, err
	}
	go func() {
		defer close(g.done)
		if err := g.read(answer); !errors.Is(err, os.ErrClosed) {
			g.failed <- err
		}
	}()
	return g, nil
}

// mark asks for opens in a directory, by whatever name they come.
func (g *group) mark(dir int) error { return g.change(unix.FAN_MARK_ADD, dir) }

// unmark is at once: what is opened from now on is not asked for.
func (g *group) unmark(dir int) error {
	err := g.change(unix.FAN_MARK_REMOVE, dir)
	if errors.Is(err, unix.ENOENT) {
		return nil // the directory was deleted, and the mark with it
	}
	return err
}

func (g *group) change(flags uint, dir int) error {
	var markErr error
	err := g.raw.Control(func(fd uintptr) {
		// FAN_MARK_ONLYDIR: of anything else a mark would be for nothing.
		markErr = unix.FanotifyMark(int(fd), flags|unix.FAN_MARK_ONLYDIR, mask, dir, "")
	})
	if err = errors.Join(err, markErr); err != nil {
		return fmt.Errorf("fanotify_mark: %w", err)
	}
	return nil
}

// close lets everybody pass. The first result is false when the kernel did not: the reader is within a system call on the group.
// The second is false when the reader has not ended, which it does as soon as it comes back.
func (g *group) close(patience time.Duration) (closed, joined bool) {
	all := make(chan struct{})
	go func() { // ends as soon as the reader has left its system call
		g.file.Close()
		close(all)
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-all:
	case <-late.C:
		return false, false
	}
	select {
	case <-g.done:
		return true, true
	case <-late.C:
		return true, false
	}
}

// stuck is asked at intervals, and true when somebody has waited for so long. As the reader has not gone round since the look that
// found him, he is still there.
func (g *group) stuck(now time.Time, limit time.Duration) bool {
	turns := g.turns.Load()
	if !g.busy.Load() && !g.waiting() {
		g.since = time.Time{}
		return false
	}
	if turns != g.seen || g.since.IsZero() {
		g.seen, g.since = turns, now
		return false
	}
	return now.Sub(g.since) >= limit
}

// waiting reports whether an event has not been read.
func (g *group) waiting() (yes bool) {
	g.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		yes = err == nil && n > 0
	})
	return yes
}

// event is an open that waits for an answer. Its process lives, or nobody waits: so what /proc says of pid is of the opener.
type event struct {
	pid  int32
	file int // open while the event is being judged
}

// read answers events, one at a time, so that one descriptor is all it ever needs.
func (g *group) read(answer func(event) bool) error {
	for {
		e, err := g.next()
		if err != nil {
			return err
		}
		if e.file < 0 {
			return errors.New("the kernel's queue of events has overflowed, and openers passed unasked")
		}
		err = g.respond(e, answer(e))
		unix.Close(e.file) // after the answer, which names it by this number
		if err != nil {
			return err
		}
		g.turns.Add(1)
	}
}

// next waits for an event.
func (g *group) next() (event, error) {
	var meta unix.FanotifyEventMetadata
	buf := (*[unix.FAN_EVENT_METADATA_LEN]byte)(unsafe.Pointer(&meta)) // room for one, which carries nothing behind it
	var readErr error
	err := g.raw.Read(func(fd uintptr) bool {
		for {
			g.busy.Store(true)
			var n int
			n, readErr = unix.Read(int(fd), buf[:])
			switch {
			case readErr == nil && n == len(buf):
				return true
			case readErr == nil:
				readErr = fmt.Errorf("an event of %d bytes", n)
				return true
			case isFatal(readErr):
				return true
			}
			// Either nothing is there, or the kernel could not open an event's file, has refused that opener and says why: EAGAIN
			// may be both. Only if nothing is there do we wait, because for what is there already nobody wakes us.
			g.busy.Store(false)
			g.turns.Add(1)
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(p, 0); n == 0 && err == nil {
				return false
			}
		}
	})
	if err = errors.Join(err, readErr); err != nil {
		return event{}, fmt.Errorf("read events: %w", err)
	}
	if meta.Vers != unix.FANOTIFY_METADATA_VERSION {
		return event{}, fmt.Errorf("events of version %d; this program knows %d", meta.Vers, unix.FANOTIFY_METADATA_VERSION)
	}
	return event{pid: meta.Pid, file: int(meta.Fd)}, nil
}

// isFatal tells errors that would befall the next event as well from those of one file, which its owner may have arranged:
// a socket (ENXIO), a lease (EAGAIN).
func isFatal(err error) bool {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EBADF, unix.EFAULT, unix.EINVAL:
		return true
	}
	return false
}

// respond says whether an opener may go on.
func (g *group) respond(e event, deny bool) error {
	r := unix.FanotifyResponse{Fd: int32(e.file), Response: unix.FAN_ALLOW}
	if deny {
		r.Response = unix.FAN_DENY
	}
	var writeErr error
	err := g.raw.Control(func(fd uintptr) {
		for {
			_, writeErr = unix.Write(int(fd), (*[unsafe.Sizeof(r)]byte)(unsafe.Pointer(&r))[:])
			if writeErr != unix.EINTR {
				return
			}
		}
	})
	if writeErr == unix.ENOENT {
		writeErr = nil // the opener was killed, and nobody waits
	}
	if err = errors.Join(err, writeErr); err != nil {
		return fmt.Errorf("answer an event: %w", err)
	}
	return nil
}
