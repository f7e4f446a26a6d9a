package main

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is the command of 'locker run'.
type child struct {
	pid   int
	pidfd int                     // names the process even when its pid is another's; -1: no such thing here
	alone bool                    // in a process group of its own, whose id is pid
	exit  chan syscall.WaitStatus // one status, of capacity 1
}

// hasTerminal reports whether we have a controlling terminal: tty(4). If so, job control is its shell's business, and
// the command has to stay in our process group, or reading from the terminal would stop it (SIGTTIN).
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// start starts the command with our standard input, output and error. All descriptors that we have opened are
// close-on-exec: the socket does not reach it.
//
// The goroutine that starts it stays with it until its end, on a thread of its own: the kernel sends PR_SET_PDEATHSIG when
// the *thread* that forked ends, not the process. prctl(2).
func start(path string, argv, env []string, alone, dieWithUs bool) (*child, error) {
	// Orphans come to us instead of init, so that after a loss we can tell when the last is gone. It is not inherited,
	// and ends with us. PR_SET_CHILD_SUBREAPER, prctl(2). Without it we still see the process group.
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	attr := &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: alone}}
	if dieWithUs {
		attr.Sys.Pdeathsig = syscall.SIGTERM
	}
	c := &child{alone: alone, exit: make(chan syscall.WaitStatus, 1), pidfd: -1}
	attr.Sys.PidFD = &c.pidfd // close-on-exec: CLONE_PIDFD, clone(2)
	started := make(chan error)
	go func() { // ends with the command, whose status the caller waits for; or with an error
		runtime.LockOSThread()
		var err error
		c.pid, err = syscall.ForkExec(path, argv, attr)
		started <- err
		if err == nil {
			c.wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// wait collects the dead, the command's and adopted ones, until the command itself is among them.
func (c *child) wait() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			panic("wait for a child that must exist: " + err.Error())
		case pid == c.pid:
			c.exit <- status
			return
		}
	}
}

// forwarded gives the signals that we pass on. A terminal sends its own to the whole group, the command included: of these
// INT and QUIT are caught, so that we outlive the command and report its end, and the rest is left to work on us as on it.
func forwarded(alone bool) []os.Signal {
	all := []os.Signal{
		syscall.SIGTERM, syscall.SIGCONT, syscall.SIGUSR1, syscall.SIGUSR2,
	}
	if alone {
		all = append(all, syscall.SIGTSTP, syscall.SIGWINCH)
	}
	return append(all, ignorable()...)
}

// forward passes on a signal that was sent to us.
func (c *child) forward(sig syscall.Signal) {
	switch {
	case !c.alone && (sig == syscall.SIGINT || sig == syscall.SIGQUIT):
		// The terminal sent it to the command too: once is enough.
	case c.alone && sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2:
		syscall.Kill(-c.pid, sig)
	default:
		// To the command itself: USR1 and USR2 end a program that does not expect them, such as its helpers.
		c.signal(sig)
	}
}

// signal sends sig to the command itself.
func (c *child) signal(sig syscall.Signal) {
	if c.pidfd < 0 || unix.PidfdSendSignal(c.pidfd, sig, nil, 0) == syscall.ENOSYS {
		syscall.Kill(c.pid, sig)
	}
}

// signalAll sends sig to everybody who belongs to the command and is not in told, and wakes them, since a stopped process
// does not heed SIGTERM. It reports whether anybody is left.
func (c *child) signalAll(sig syscall.Signal, told map[int]bool) (left bool) {
	if c.alone && !told[c.pid] {
		told[c.pid] = true
		syscall.Kill(-c.pid, sig)
		syscall.Kill(-c.pid, syscall.SIGCONT)
	}
	alive, err := c.survivors()
	if err != nil { // no /proc: what the kernel says of the group or the command must do
		target := c.pid
		if c.alone {
			target = -c.pid
		} else if !told[c.pid] {
			told[c.pid] = true
			c.signal(sig)
		}
		return syscall.Kill(target, 0) == nil
	}
	for _, pid := range alive {
		if !c.alone && !told[pid] {
			told[pid] = true
			syscall.Kill(pid, sig)
			syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	return len(alive) > 0
}
