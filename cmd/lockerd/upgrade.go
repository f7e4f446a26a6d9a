package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An upgrade replaces the program of the running foreground lockerd by the one that is installed now. The sockets, the rights to
// their names and the broker go through execve(2); the copies of locks do not. The broker, which sees the keeper go, sends them
// again to the new program; only when that has them all is the broker replaced as well. A lock so always has two owners, or a
// broker that runs and a keeper that is being filled.

// triedAtMost is how long a new program may take to show that it works.
const triedAtMost = 5 * time.Second

// triedAnew bounds how often in a row an upgrade finds another program than it has tried; there are file systems where each look does.
const triedAnew = 10

// upgrade is how far one is.
type upgrade struct {
	trial   programID  // of what is or was tried
	anew    int        // how often in a row that had changed when it was to take over
	tried   chan error // what came of trying the new program; nil: none is being tried
	ready   bool       // it works: it takes our place as soon as nothing can get lost by that
	replace int        // pid of the broker that the program before this one started; 0: there is none any more
	told    bool       // that broker is told to make way
	another bool       // SIGUSR2 came meanwhile: what is installed may be newer again
}

// beginUpgrade tries the program that is there now. While an upgrade is under way, one more comes after it, however many are asked
// for.
func (s *supervisor) beginUpgrade() {
	u := &s.upgrade
	if u.tried != nil || u.ready || u.replace != 0 {
		u.another = true
		return
	}
	u.another = false
	if s.stopping {
		return
	}
	s.logger.Info("upgrade: trying the program that is installed now", "program", s.self)
	u.trial = programAt(s.self)
	tried := make(chan error, 1) // so that it ends though the loop has ended
	u.tried = tried
	go func() { tried <- tryProgram(s.self, s.o) }()
}

// programID tells a program from one that was installed after it, in its place or over it. Zero: there is none.
type programID struct {
	dev, ino         uint64
	size             int64
	changed, written unix.Timespec
}

// programAt gives what is at a path now.
//
// Privileged: looks at the program that is where ours was.
func programAt(path string) programID {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return programID{} // who runs it is told why
	}
	return programID{st.Dev, st.Ino, st.Size, st.Ctim, st.Mtim}
}

// tryProgram finds out whether a program is a lockerd that would start.
//
// Privileged: runs the program that is where ours was: whoever can write there has been trusted with that at our start.
func tryProgram(program string, o options) error {
	ctx, cancel := context.WithTimeout(context.Background(), triedAtMost)
	defer cancel()
	tries := [][]string{{"--version"}}
	if len(o.allow) == 0 {
		tries = append(tries, []string{"--check", "--config", o.config})
	}
	for _, args := range tries {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.WaitDelay = time.Second // whoever has inherited its output
		out, err := cmd.CombinedOutput()
		said := strings.TrimSpace(string(out))
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s %s: no answer within %v", program, args[0], triedAtMost)
		case err != nil:
			return fmt.Errorf("%s %s: %w: %.300s", program, args[0], err, said)
		case args[0] == "--version" && !strings.HasPrefix(said, "lockerd "):
			return fmt.Errorf("%s --version: it says %.100q and is no lockerd", program, said)
		}
	}
	return nil
}

// tried goes on with an upgrade, or gives it up.
func (s *supervisor) tried(err error) {
	s.upgrade.tried = nil
	if err != nil {
		s.upgrade.anew = 0
		s.logger.Error("upgrade refused, everything stays as it is", "error", err)
		s.upgradeAgain()
		return
	}
	s.upgrade.ready = true
}

// goOnUpgrading does the next step of an upgrade if its time has come.
func (s *supervisor) goOnUpgrading() {
	u := &s.upgrade
	if s.over || s.stopping || s.broker == nil || !s.broker.ready {
		return
	}
	pid := s.broker.process.Pid
	if int(s.syncedBy.Load()) != pid {
		return // it has sent us nothing yet: now we may have the only copy of a lock
	}
	switch {
	case u.ready && len(s.signals) > 0: // the new program would not see them
	case u.ready:
		s.logger.Info("upgrade: the new program takes over", "program", s.self)
		s.manager.say(reloading())
		err := s.become()
		if errors.Is(err, errSignalled) { // to be heeded now; then it is tried again
			s.manager.say("READY=1")
			return
		}
		u.ready = false
		s.manager.say("READY=1")
		if errors.Is(err, errAnother) && u.anew < triedAnew {
			u.anew++
			s.logger.Info("upgrade: not taken over, it is tried anew", "reason", err)
			s.beginUpgrade()
			return
		}
		u.anew = 0
		s.logger.Error("upgrade failed, everything stays as it is", "error", err)
		s.upgradeAgain()
	case u.replace == pid && !u.told:
		u.told = true
		s.broker.process.Signal(unix.SIGTERM)
	}
}

// upgradedBroker ends an upgrade with the first broker of the new program.
func (s *supervisor) upgradedBroker() {
	u := &s.upgrade
	if u.replace != 0 && u.replace != s.broker.process.Pid {
		u.replace, u.told = 0, false
		s.logger.Info("upgraded", "version", version, "broker", s.broker.process.Pid)
		s.upgradeAgain()
	}
}

// upgradeAgain begins the upgrade that was asked for while another was under way.
func (s *supervisor) upgradeAgain() {
	if s.upgrade.another {
		s.beginUpgrade()
	}
}

// become runs the program that is installed now in our place. It comes back only if that cannot be.
//
// Privileged: as tryProgram.
func (s *supervisor) become() error {
	text, free, err := s.carry()
	defer free()
	if err != nil {
		return fmt.Errorf("carry descriptors over: %w", err)
	}
	return s.runInPlace(append(os.Environ(), carriedVariable+"="+text))
}

// heeded are the signals that mean something to a supervisor.
var heeded = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR2}

// errSignalled says that a signal came which the new program would not see.
var errSignalled = errors.New("a signal came first")

// errAnother says that what is installed now is not what was tried.
var errAnother = errors.New("another program has been installed since this one was tried")

// runInPlace is execve(2), unless there is a signal to heed before, or the program is not the one that was tried.
//
// Privileged: as tryProgram.
func (s *supervisor) runInPlace(env []string) error {
	if programAt(s.self) != s.upgrade.trial {
		return errAnother
	}
	defer signal.Notify(s.signals, heeded...)
	// Until the new program has handlers of its own, a second SIGUSR2 must not kill it: an ignored signal stays ignored through
	// execve(2), and Go leaves SIGHUP and SIGINT so as well. A SIGHUP lost here is made up for, since the new broker reads the
	// policy anew; a SIGINT can be typed again.
	signal.Ignore(unix.SIGUSR2, unix.SIGHUP, unix.SIGINT)
	// What has come until now is in the channel when Stop returns. From here on SIGTERM has its default action, as for the first
	// millisecond or two of the new program, whatever Go is told: one in there is not swallowed, but a crash of lockerd, and its
	// broker keeps all locks for the next.
	signal.Stop(s.signals)
	if len(s.signals) > 0 {
		return errSignalled
	}
	return fmt.Errorf("run %s: %w", s.self, unix.Exec(s.self, os.Args, env))
}
