package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"locker/client"
)

// role is who can die.
type role int

const (
	brokerRole role = iota
	keeperRole
	roles
)

func (r role) String() string { return [...]string{"broker", "keeper"}[r] }

// incarnation is one process of a role.
type incarnation struct {
	role
	cmd   *exec.Cmd
	pid   int
	step  string // where it kills itself, or ""
	asked string // how we have ended it, or ""
	gone  chan struct{}
}

// supervisor starts broker and keeper, and starts again at once what has died, as a service manager does.
type supervisor struct {
	*stage
	*timeline
	starts  chan func() // run by the one thread that starts processes
	nextArm func(r role) string

	asking sync.Mutex     // guards asks, while it is asked
	asks   *client.Client // nil: none yet

	mu       sync.Mutex // guards what follows
	current  [roles]*incarnation
	withheld [roles]bool // do not start it again yet
	down     [roles]bool
	ending   bool
	kills    [roles]int            // that we did
	steps    map[string]int        // self-kills
	handed   int                   // SIGTERMs
	reaped   sync.WaitGroup        // of all incarnations
	fault    func(finding finding) // hears what ended unasked
}

// newStarter gives the channel for functions that start processes. PR_SET_PDEATHSIG, which ends them if we are ended, is
// about the thread that made them, prctl(2); so it is always the same, which never ends.
func newStarter() chan func() {
	c := make(chan func())
	go func() { // for as long as the process lives
		lockThread()
		for f := range c {
			f()
		}
	}()
	return c
}

// start starts a command on the starter's thread.
func start(starts chan func(), cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := make(chan error)
	starts <- func() { err <- cmd.Start() }
	return <-err
}

func (s *supervisor) launch(r role) {
	step := ""
	if s.nextArm != nil {
		step = s.nextArm(r)
	}
	argv := s.command(r)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + s.dir, "LOCKERD_TORTURE_BUG=" + s.bug}
	if r == brokerRole {
		cmd.ExtraFiles = []*os.File{s.listener}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=lockerd.socket")
	}
	if step != "" {
		cmd.Env = append(cmd.Env, "LOCKERD_TORTURE_STEP="+step)
	}
	out, err := openAppend(s.log(r))
	if err == nil {
		cmd.Stdout, cmd.Stderr = out, out
		err = start(s.starts, cmd)
		out.Close()
	}
	if err != nil {
		s.fault(finding{kind: "end", text: fmt.Sprintf("start the %v: %v", r, err)})
		return
	}
	name, _, _ := strings.Cut(step, "=")
	p := &incarnation{role: r, cmd: cmd, pid: cmd.Process.Pid, step: name, gone: make(chan struct{})}
	s.mu.Lock()
	s.current[r], s.down[r] = p, false
	late := s.ending
	s.mu.Unlock()
	s.started(r, p.pid, step)
	s.reaped.Go(func() {
		cmd.Wait()
		s.died(p)
	})
	if late { // end has not seen it
		cmd.Process.Kill()
	}
}

func (s *supervisor) log(r role) string { return filepath.Join(s.dir, r.String()+".log") }

// died is told of each end, judges it, and starts the next one.
func (s *supervisor) died(p *incarnation) {
	s.mu.Lock()
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	killed := status.Signaled() && status.Signal() == syscall.SIGKILL
	how, wrong := "", false
	switch {
	case p.asked == handOver && status.Exited() && status.ExitStatus() == 0:
		how = "handed over"
		s.handed++
	case p.asked != "" && p.asked != handOver && killed:
		how = "killed"
		s.kills[p.role]++
	case p.asked == "" && p.step != "" && killed:
		how = "killed itself at " + p.step
		s.steps[p.step]++
	default:
		how, wrong = "ended unasked: "+p.cmd.ProcessState.String(), !s.ending
	}
	again := !s.ending && !s.withheld[p.role] && !wrong
	s.down[p.role] = true
	s.mu.Unlock()
	s.ended(p.role, p.pid, how)
	if wrong {
		s.fault(finding{kind: "end", text: fmt.Sprintf("the %v (pid %d) %s\n%s", p.role, p.pid, how, tail(s.log(p.role)))})
	}
	if again {
		s.launch(p.role)
	}
	close(p.gone) // after the launch: who waits for the end sees the next one
}

// tail gives the last lines of a log.
func tail(name string) string {
	text, _ := os.ReadFile(name)
	return string(text[max(0, len(text)-4000):])
}

// of gives the running process of a role.
func (s *supervisor) of(r role) *incarnation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current[r]
}

// withhold says that a role is not to be started again when it dies; allow takes that back and starts it.
func (s *supervisor) withhold(r role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withheld[r] = true
}

func (s *supervisor) allow(r role) {
	s.mu.Lock()
	s.withheld[r] = false
	again := s.down[r] && !s.ending
	s.mu.Unlock()
	if again {
		s.launch(r)
	}
}

const handOver = "SIGTERM"

// kill ends a process, unless it has ended already.
func (s *supervisor) kill(p *incarnation, how string) {
	sig := unix.SIGKILL
	if how == handOver {
		sig = unix.SIGTERM
		p.awaitCatches(sig)
	}
	s.mu.Lock()
	if p.asked == "" || how != handOver {
		p.asked = how
	}
	s.mu.Unlock()
	s.said("%v %d is to be ended: %s", p.role, p.pid, how)
	// Not yet waited for, or cmd.Process would say so: the pid is nobody else's.
	p.cmd.Process.Signal(sig)
}

// awaitCatches waits until a process that runs hears a signal: its socket is there before its program has begun, and who is sent one
// then dies of it as any program does.
func (p *incarnation) awaitCatches(sig unix.Signal) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !catches(p.pid, sig) {
		select {
		case <-p.gone:
			return
		case <-tick.C:
		}
	}
}

// catches reports whether a process has a handler for a signal, or none is to be expected any more. proc_pid_status(5)
func catches(pid int, sig unix.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			caught, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return err != nil || caught&(1<<(sig-1)) != 0
		}
	}
	return true
}

// end ends both for good.
func (s *supervisor) end() {
	s.mu.Lock()
	s.ending = true
	current := s.current
	s.mu.Unlock()
	for _, p := range current {
		if p != nil {
			p.cmd.Process.Kill()
		}
	}
	s.reaped.Wait()
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.asks != nil {
		s.asks.Close()
		s.asks = nil
	}
}
