package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The guards of a supervisor, one after the other: there is one from when a policy denies somebody until a broker starts with one that
// does not. A guard kills itself when it hangs, so that nobody waits for it (package guard); another one is started then, and the
// broker, which sees the one go, has it guard anew.

const (
	saysGuard = "X_LOCKER_GUARD=" // with 1 a broker says that its policy denies somebody; with 0, at its start, that it does not

	leastGuardPause = 100 * time.Millisecond // before a guard is started again; it doubles with each that ends soon
	mostGuardPause  = 30 * time.Second
	guardLives      = 10 * time.Second // or longer: then it did not end soon
	guardEnds       = 2 * time.Second  // after SIGTERM
)

// guards are what a supervisor knows about them.
type guards struct {
	wanted bool
	child  *child           // nil: none runs
	again  <-chan time.Time // when the next one is started
	pause  time.Duration    // before that
	told   bool             // that there can be none
	old    bool             // the one that runs is of the program before this one, and is being ended
}

// says is where the guard that runs tells how it is; it is closed when that has ended.
func (g *guards) says() <-chan string {
	if g.child == nil {
		return nil
	}
	return g.child.says
}

// guardSocket is where a guard of ours listens: where the keeper does. noGuard if there can be none.
func (s *supervisor) guardSocket() string {
	if os.Geteuid() != 0 || len(s.o.allow) > 0 {
		return noGuard
	}
	return filepath.Join(filepath.Dir(s.keeper.path), "guard.sock")
}

// wantGuard starts a guard, or ends it.
func (s *supervisor) wantGuard(wanted bool) {
	g := &s.guards
	if wanted && s.guardSocket() == noGuard {
		if !g.told {
			g.told = true
			s.logger.Warn("the policy has [guard], and only root can keep file servers out: locks go on without")
		}
		return
	}
	g.wanted = wanted
	switch {
	case !wanted:
		g.again, g.pause, g.old = nil, 0, false
		if g.child != nil {
			g.child.process.Signal(unix.SIGTERM)
		}
	case g.child == nil && g.again == nil:
		s.startGuard()
	}
}

func (s *supervisor) startGuard() {
	g := &s.guards
	g.again = nil
	c, err := startChild([]string{"guard", "--guard", s.guardSocket(), "--log-level", s.o.logLevel, "--log-format", s.o.logForm}, nil)
	if err != nil {
		s.logger.Error("start the guard", "error", err)
		s.guardLater()
		return
	}
	g.child = c
}

// guardLater starts the next guard, ever later while they end soon.
func (s *supervisor) guardLater() {
	g := &s.guards
	g.pause = min(max(2*g.pause, leastGuardPause), mostGuardPause)
	g.again = time.After(g.pause)
}

// heardGuard takes note of the end of a guard. What else it says is for service managers.
func (s *supervisor) heardGuard(alive bool) {
	if alive {
		return
	}
	g := &s.guards
	c := g.child
	g.child = nil
	if !g.wanted {
		return
	}
	if g.old {
		g.old = false
		s.startGuard()
		return
	}
	how, _ := c.howItEnded()
	s.logger.Warn("the guard ended; it is started again", "how", how)
	if time.Since(c.started) >= guardLives {
		g.pause = 0
	}
	s.guardLater()
}

// takeGuard follows the guard of the program before this one, and ends it: the next one is of this program. With SIGKILL, which nothing
// keeps waiting, and no guard minds.
func (s *supervisor) takeGuard(c *child) {
	s.guards.wanted, s.guards.child, s.guards.old = true, c, true
	c.process.Kill()
}

// endGuard ends the guard that runs, and waits for that, though not for ever: nobody waits for what a guard does.
func (s *supervisor) endGuard() {
	s.wantGuard(false)
	late := time.NewTimer(guardEnds)
	defer late.Stop()
	for s.guards.child != nil {
		select {
		case _, alive := <-s.guards.child.says:
			s.heardGuard(alive)
		case <-late.C:
			s.guards.child.process.Kill()
			return
		}
	}
}

// hearGuardWord takes in whether a broker wants a guard; false if the text is about something else.
func (s *supervisor) hearGuardWord(word string) bool {
	value, ok := strings.CutPrefix(word, saysGuard)
	if ok {
		s.wantGuard(value == "1")
	}
	return ok
}
