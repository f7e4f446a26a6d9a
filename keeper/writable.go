package keeper

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// crowdedPause is how long one waits who was told ETOOMANYREFS, for which there is no event to wait for.
const crowdedPause = 2 * time.Millisecond

// waitWritable waits until the socket takes a message, its peer is gone, its write deadline is over or it is closed.
//
// A unix socket is called writable when its queue is down to a quarter, so who waits for room finds much. unix_writable() in
// net/unix/af_unix.c.
func waitWritable(raw syscall.RawConn) error {
	return raw.Write(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		for {
			if n, err := unix.Poll(p, 0); err != unix.EINTR {
				return err != nil || n > 0
			}
		}
	})
}
