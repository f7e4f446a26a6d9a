package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// saysDrained is a broker's last word when it has let go of everything in order. Without it there may be more to do.
const saysDrained = "X_LOCKER_DRAINED=1"

// child is a running broker or guard, as its parent sees it.
type child struct {
	process *os.Process
	report  *os.File    // what it says comes from here, a message a packet
	says    chan string // the same; closed when it has ended. Not before all is read that it has said.
	started time.Time
	ready   bool
	drained bool
	end     *os.ProcessState // once says is closed
}

// startChild starts a broker on this listener, or, without one, a guard, which makes its own.
//
// Privileged: runs the program that we are, from the kernel's own reference to it: what has become of the file by that name
// meanwhile does not matter. The words are the administrator's.
func startChild(args []string, l *net.UnixListener) (*child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket for the reports of %s: %w", args[0], err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "report")
	defer theirs.Close()
	ours, err := reportFile(pair[0])
	if err != nil {
		return nil, err
	}
	var passed []*os.File
	if l != nil {
		socket, err := l.File()
		if err != nil {
			ours.Close()
			return nil, fmt.Errorf("pass the socket on: %w", err)
		}
		defer socket.Close()
		passed = append(passed, socket)
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "lockerd"
	// The group stays ours: what a terminal or a shell sends to the job goes to both.
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, append(passed, theirs)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NOTIFY_SOCKET=") || strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WATCHDOG_")
	}), "LISTEN_FDS="+strconv.Itoa(len(passed)), supervisorVariable+"="+strconv.Itoa(firstPassed+len(passed)))
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the %s: %w", args[0], err)
	}
	return watchChild(cmd.Process, ours), nil
}

// reportFile makes our end of a report socket a file that a goroutine can wait for.
func reportFile(fd int) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "report"), nil
}

// watchChild follows a child until it has ended, which closes says: whoever made it reads on until then, so nothing waits here.
func watchChild(process *os.Process, report *os.File) *child {
	c := &child{process: process, report: report, says: make(chan string, 16), started: time.Now()}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := report.Read(buf)
			if n <= 0 || err != nil { // nobody has the other end any more: it is ending, or has ended
				break
			}
			c.says <- string(buf[:n])
		}
		c.end, _ = process.Wait()
		report.Close()
		close(c.says)
	}()
	return c
}

// howItEnded says it for the log. The code is what it exited with, -1 after a signal.
func (c *child) howItEnded() (text string, code int) {
	if c.end == nil {
		return "unknown", -1
	}
	if status, ok := c.end.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "signal " + strconv.Itoa(int(status.Signal())), -1
	}
	return c.end.String(), c.end.ExitCode()
}

// brokerArgs are the words with which the foreground starts its broker. Where it listens and keeps its state is settled once,
// and no change of the policy moves it under a keeper that stays.
func (o options) brokerArgs(s settings, keeper, guard string, first bool) []string {
	args := []string{"broker", "--keeper", keeper, "--guard", guard, "--socket", s.socket, "--state-dir", s.stateDir, "--log-level", o.logLevel, "--log-format", o.logForm}
	if o.configGiven {
		args = append(args, "--config", o.config)
	}
	for _, path := range o.allow {
		args = append(args, "--allow", path)
	}
	if o.acceptBrokenLog && first { // the damage that the administrator has seen, and no later one
		args = append(args, "--accept-broken-log")
	}
	return args
}

// callMyself sets the name that ps(1) shows, which was taken from /proc/self/exe.
//
// Privileged: writes to our own entry of proc.
func callMyself(name string) {
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0)
}
