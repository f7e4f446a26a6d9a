package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstPassed is the first descriptor that a service manager hands over. sd_listen_fds(3).
const firstPassed = 3

// passedListener takes the listening socket of a service manager, or of our supervisor; nil without one.
func passedListener(supervised bool) (*net.UnixListener, error) {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	// Not for our children, and not twice.
	os.Unsetenv("LISTEN_PID")
	os.Unsetenv("LISTEN_FDS")
	os.Unsetenv("LISTEN_FDNAMES")
	// A supervisor in Go cannot know the pid of its child before it runs.
	if pid != strconv.Itoa(os.Getpid()) && !supervised || n == "" || n == "0" {
		return nil, nil
	}
	if n != "1" {
		return nil, fmt.Errorf("the service manager passed %s sockets, and lockerd takes one", n)
	}
	u, err := listenerOf(firstPassed)
	if err != nil {
		return nil, fmt.Errorf("take the socket that the service manager passed: %w", err)
	}
	return u, nil
}

// listenerOf makes a listener of a descriptor that came from before this program ran. The name of the socket is not ours to
// remove.
func listenerOf(fd int) (*net.UnixListener, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close() // FileListener keeps a duplicate
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("it is not a unix socket that listens"), l.Close())
	}
	u.SetUnlinkOnClose(false)
	return u, nil
}

// supervisorVariable holds the number of the descriptor over which a broker tells its supervisor how it is.
const supervisorVariable = "LOCKERD_SUPERVISOR"

// manager is who wants to know how we are: a service manager, the supervisor that started this broker, or nobody.
type manager struct {
	supervisor int           // descriptor of a packet socket; -1: none
	address    string        // of the service manager; "": none
	pause      time.Duration // how long a process that cannot start keeps it from trying again
}

func newManager() manager {
	m := manager{supervisor: -1, address: os.Getenv("NOTIFY_SOCKET"), pause: startPause}
	if fd, err := strconv.Atoi(os.Getenv(supervisorVariable)); err == nil && fd > 2 {
		m.supervisor = fd
		unix.CloseOnExec(fd)
	}
	os.Unsetenv(supervisorVariable) // not for our children
	return m
}

func (m manager) supervised() bool { return m.supervisor >= 0 }

// outlived waits until the supervisor has died, which closes its end of the socket for reports, and reports whether that came
// before the end of ctx. Nothing is ever sent to us over it.
func (m manager) outlived(ctx context.Context) bool {
	if !m.supervised() {
		return false
	}
	fd, err := unix.FcntlInt(uintptr(m.supervisor), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false
	}
	report, err := reportFile(fd)
	if err != nil {
		return false
	}
	defer report.Close()
	disarm := context.AfterFunc(ctx, func() { report.SetReadDeadline(time.Unix(1, 0)) }) // long ago: Read returns
	defer disarm()
	_, err = report.Read(make([]byte, 1))
	return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) // reset: it had not read all that we said. unix(7)
}

// say tells in the words of sd_notify(3). What is made of it is not ours to know.
func (m manager) say(words ...string) {
	text := strings.Join(words, "\n")
	if m.supervised() {
		// MSG_DONTWAIT, MSG_NOSIGNAL: a supervisor that hangs or has died must not stop the broker. send(2).
		_, _ = unix.SendmsgN(m.supervisor, []byte(text), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return
	}
	if m.address == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.address, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(text))
}

// startPause is how long a process that cannot start keeps its service manager from trying again.
const startPause = time.Second

// cannotStart says at once why we end before anything was served, spares the service manager, and gives what we end with.
func (m manager) cannotStart(ctx context.Context, stderr io.Writer, err error) error {
	complain(stderr, err)
	m.spare(ctx)
	return exitCode(1)
}

// spare waits before an end that came before anything was served: a service manager starts us again at once, as it should after a crash,
// but now in vain. No option of a unit tells the one from the other: RestartSec= and RestartSteps= would delay who was killed, too.
// Until ctx is done.
func (m manager) spare(ctx context.Context) {
	if m.address == "" {
		return
	}
	over := time.NewTimer(m.pause)
	defer over.Stop()
	select {
	case <-ctx.Done():
	case <-over.C:
	}
}

// reloading is what a reload begins with; READY=1 ends it.
func reloading() string {
	var ts unix.Timespec
	usec := int64(0)
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err == nil {
		usec = ts.Nano() / 1000
	}
	return "RELOADING=1\nMONOTONIC_USEC=" + strconv.FormatInt(usec, 10)
}
