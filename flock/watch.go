package flock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Waiter waits for files to be let go by programs outside the broker. One serves the whole process: it owns one
// inotify(7) instance and one goroutine that reads it, from NewWaiter to Close. Safe for concurrent use.
type Waiter struct {
	events *os.File
	fd     int           // of events: os.File.Fd would make it blocking
	net    time.Duration // netStart, but for tests
	closed chan struct{} // closed by Close: ends all waits
	read   chan struct{} // closed when the reader has ended

	// mu guards what follows. inotify_add_watch and inotify_rm_watch are called under it, so that the bookkeeping is
	// the kernel's: neither waits for a file system, since network files are not watched.
	mu      sync.Mutex
	watches map[int32]*watch // by watch descriptor: the kernel has one for each inode
	ended   bool
}

// watch is one inode, and the waits that it wakes. Guarded by Waiter.mu.
type watch struct {
	wd    int32
	hints []chan<- struct{}
}

// A close is the usual end of an outside lock. The others say that the name may lead elsewhere now.
const hintEvents = unix.IN_CLOSE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ATTRIB

// NewWaiter starts the reader; Close ends it.
func NewWaiter() (*Waiter, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	w := &Waiter{
		events:  os.NewFile(uintptr(fd), "inotify"),
		fd:      fd,
		net:     netStart,
		closed:  make(chan struct{}),
		read:    make(chan struct{}),
		watches: make(map[int32]*watch),
	}
	go w.reader() // joined in Close
	return w, nil
}

// Close ends all waits with os.ErrClosed and the reader. It may be called more than once.
func (w *Waiter) Close() error {
	w.mu.Lock()
	first := !w.ended
	w.ended = true
	w.mu.Unlock()
	if !first {
		<-w.read
		return nil
	}
	close(w.closed)
	err := w.events.Close() // wakes the reader: the descriptor is in the runtime's poller
	<-w.read
	return err
}

// watch makes events of f's inode fill hint; nil if it cannot, and the net must do.
//
// Privileged: f is an attacker's file, already open; the watch goes to that inode, whatever its name leads to now.
func (w *Waiter) watch(f *File, hint chan<- struct{}) *watch {
	if f == nil || f.Network || f.fd < 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return nil
	}
	// ENOSPC: fs.inotify.max_user_watches of our uid are used up. inotify(7)
	wd, err := unix.InotifyAddWatch(w.fd, "/proc/self/fd/"+strconv.Itoa(f.fd), hintEvents)
	if err != nil {
		return nil
	}
	k := w.watches[int32(wd)]
	if k == nil {
		k = &watch{wd: int32(wd)}
		w.watches[k.wd] = k
	}
	k.hints = append(k.hints, hint)
	return k
}

// unwatch takes hint off again; the last one takes the kernel's watch with it.
func (w *Waiter) unwatch(k *watch, hint chan<- struct{}) {
	if k == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range k.hints {
		if k.hints[i] == hint {
			k.hints = append(k.hints[:i], k.hints[i+1:]...)
			break
		}
	}
	if len(k.hints) == 0 && w.watches[k.wd] == k {
		delete(w.watches, k.wd)
		if !w.ended { // else the descriptor may be somebody else's by now
			unix.InotifyRmWatch(w.fd, uint32(k.wd)) // EINVAL: the kernel was faster
		}
	}
}

// reader ends when Close closes the descriptor.
func (w *Waiter) reader() {
	defer close(w.read)
	buf := make([]byte, 64*unix.SizeofInotifyEvent) // no names: only files themselves are watched
	for {
		n, err := w.events.Read(buf)
		switch {
		case err == nil:
			w.deliver(buf[:n])
		case errors.Is(err, unix.EINTR):
		default: // closed; an inotify descriptor has no other errors that pass
			return
		}
	}
}

// deliver wakes the waits that whole events in buf are about.
func (w *Waiter) deliver(buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(buf) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		if mask&unix.IN_Q_OVERFLOW != 0 { // whose events were lost is unknown
			for _, k := range w.watches {
				k.wake()
			}
		} else if k := w.watches[wd]; k != nil {
			k.wake()
			if mask&unix.IN_IGNORED != 0 { // the file system is gone: the net remains
				delete(w.watches, wd)
			}
		}
		buf = buf[min(size, len(buf)):]
	}
}

// wake cannot block: a full channel has its wake-up already.
func (k *watch) wake() {
	for _, hint := range k.hints {
		select {
		case hint <- struct{}{}:
		default:
		}
	}
}
