package guard

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// deadman is a timer of the kernel's that kills this process with SIGKILL, unless it is put off in time: a process that is
// stopped, frozen, or gets no processor cannot answer events, nor notice that it does not. It needs nobody else to be alive, and
// SIGKILL is the one signal that a stopped process cannot keep waiting. timer_create(2), signal(7)
type deadman struct {
	id    int32
	limit time.Duration
}

// sigevent is struct sigevent of sigevent(3type), 64 bytes in every ABI of Linux.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32 // SIGEV_SIGNAL is 0
	_      [64 - 8 - unsafe.Sizeof(uintptr(0))]byte
}

func newDeadman(limit time.Duration) (*deadman, error) {
	d := &deadman{limit: limit}
	event := sigevent{signo: int32(unix.SIGKILL)}
	// CLOCK_MONOTONIC stands still while the machine sleeps; else each awakening would be our last.
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&d.id)))
	if errno != 0 {
		return nil, fmt.Errorf("timer_create: %w", errno)
	}
	return d, nil
}

// beat puts it off. A nil deadman is that of a test, and never kills.
func (d *deadman) beat() error { return d.set(true) }

// rest disarms it.
func (d *deadman) rest() error { return d.set(false) }

func (d *deadman) set(armed bool) error {
	if d == nil {
		return nil
	}
	// Two struct timespec: the interval, which is none, and the time from now, where 0 disarms. timer_settime(2)
	var spec [2]unix.Timespec
	if armed {
		spec[1] = unix.NsecToTimespec(int64(d.limit))
	}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(d.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("timer_settime: %w", errno)
	}
	return nil
}

func (d *deadman) close() {
	if d != nil {
		unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(d.id), 0, 0)
	}
}
