package guard

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnavailable: this kernel, or the capabilities of the guard, do not allow it. The text says which.
var ErrUnavailable = errors.New("opens cannot be guarded")

// needed are the capabilities of a guard, each with what it is for.
var needed = []struct {
	bit  uint
	name string
	why  string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "to be asked about opens"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "to see which program opens"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "to watch directories of others"},
}

// Available tries everything that a guard needs of the kernel in this process; it changes nothing and opens no file of
// anybody's. The error is an ErrUnavailable.
func Available() error {
	for _, try := range []func() error{tryCapabilities, tryProc, tryFanotify, tryTimer} {
		if err := try(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return nil
}

// reasonOf is what an ErrUnavailable says, without the sentinel's own words, which the other end puts there again.
func reasonOf(err error) string {
	return strings.TrimPrefix(err.Error(), ErrUnavailable.Error()+": ")
}

func tryCapabilities() error {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	var missing []string
	for _, c := range needed {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name+", "+c.why)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this process lacks %s", strings.Join(missing, "; "))
	}
	return nil
}

// tryProc: without a /proc of its own pid namespace a guard would know no opener, and refuse nobody.
//
// Privileged: reads a link in /proc.
func tryProc() error {
	var buf [16]byte
	n, err := unix.Readlink("/proc/self", buf[:])
	if err != nil {
		return fmt.Errorf("there is no /proc: %w", err)
	}
	if pid := fmt.Sprint(unix.Getpid()); string(buf[:n]) != pid {
		return fmt.Errorf("/proc is that of another pid namespace, where we are %s and not %s", buf[:n], pid)
	}
	return nil
}

// tryFanotify marks a file that has no name.
func tryFanotify() error {
	fd, err := unix.FanotifyInit(groupFlags, eventFlags)
	switch err {
	case nil:
	case unix.ENOSYS:
		return fmt.Errorf("the kernel has no fanotify (CONFIG_FANOTIFY), or a seccomp filter forbids it: %w", err)
	case unix.EPERM:
		return fmt.Errorf("not in the initial user namespace, or forbidden by a seccomp filter: fanotify_init: %w", err)
	case unix.EMFILE:
		return fmt.Errorf("too many open files, or more groups than fs.fanotify.max_user_groups allows: fanotify_init: %w", err)
	default:
		return fmt.Errorf("fanotify_init: %w", err)
	}
	defer unix.Close(fd)
	file, err := unix.MemfdCreate("guard", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(file)
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM, file, "")
	if err == unix.EINVAL {
		return fmt.Errorf("the kernel lets nobody refuse opens (CONFIG_FANOTIFY_ACCESS_PERMISSIONS): fanotify_mark: %w", err)
	}
	if err != nil {
		return fmt.Errorf("fanotify_mark: %w", err)
	}
	return nil
}

func tryTimer() error {
	d, err := newDeadman(time.Hour)
	if err != nil {
		return err
	}
	d.close()
	return nil
}
