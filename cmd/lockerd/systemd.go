package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstPassed is the first descriptor that a service manager hands over. sd_listen_fds(3).
const firstPassed = 3

// passedListener takes the listening socket of a service manager; nil without one.
func passedListener() (*net.UnixListener, error) {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	// Not for our children, and not twice.
	os.Unsetenv("LISTEN_PID")
	os.Unsetenv("LISTEN_FDS")
	os.Unsetenv("LISTEN_FDNAMES")
	if pid != strconv.Itoa(os.Getpid()) || n == "" || n == "0" {
		return nil, nil
	}
	if n != "1" {
		return nil, fmt.Errorf("the service manager passed %s sockets, and lockerd takes one", n)
	}
	unix.CloseOnExec(firstPassed)
	f := os.NewFile(firstPassed, "listener")
	defer f.Close() // FileListener keeps a duplicate
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take the socket that the service manager passed: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("the socket that the service manager passed is not a unix stream socket"), l.Close())
	}
	u.SetUnlinkOnClose(false) // the name is the service manager's
	return u, nil
}

// notify tells the service manager, if there is one. sd_notify(3). What it makes of it is not ours to know.
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(state))
}

// monotonicMicroseconds is CLOCK_MONOTONIC as RELOADING=1 wants it.
func monotonicMicroseconds() string {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return "0"
	}
	return strconv.FormatInt(ts.Nano()/1000, 10)
}
