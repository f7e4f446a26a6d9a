package torture

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func lockThread() { runtime.LockOSThread() }

// A process with many threads and descriptors does not die in an instant: its sockets close one after the other, and until the last
// one has, somebody may still reach it. We hold copies of them and close those in an order of our own.

// remains are the sockets of a process that is to die slowly.
type remains []int

// embalm copies all sockets of a process. pidfd_getfd(2): its parent may, unless it made itself undumpable; then there are none.
func embalm(pid int) (rs remains) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(pidfd)
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name.Name()))
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		fd, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		if copied, err := unix.PidfdGetfd(pidfd, fd, 0); err == nil {
			unix.CloseOnExec(copied)
			rs = append(rs, copied)
		}
	}
	return rs
}

// listeningLast puts the sockets that listen at the end: the process has dropped its connections and can still be connected to. It
// reports whether there are any.
func (rs remains) listeningLast() (any bool) {
	for i, end := 0, len(rs); i < end; {
		if on, err := unix.GetsockoptInt(rs[i], unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on != 0 {
			end--
			rs[i], rs[end], any = rs[end], rs[i], true
			continue
		}
		i++
	}
	return any
}

// pretend makes a socket at a keeper's place that can be connected to, and is never answered from: what is left of a dying keeper, for where we
// may not copy its own.
func pretend(path string) (remains, error) {
	os.Remove(path)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), os.Chmod(path, 0o600), unix.Listen(fd, 16)); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return remains{fd}, nil
}

// bury closes all but the last, one after the other, over some time in all.
func (rs remains) bury(r *rand.Rand, over time.Duration) (last remains) {
	for len(rs) > 1 {
		if r.IntN(4) == 0 {
			d := upTo(r, over/4+1)
			pause(d)
			over -= d
		}
		unix.Close(rs[0])
		rs = rs[1:]
	}
	return rs
}

// pause lets time pass; what is killed in it, and when, is what a run is about.
func pause(d time.Duration) { <-time.After(d) }
