package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"locker/keeper"
)

// supervisor is lockerd in the foreground: the keeper, and the parent of the broker and the guard. One goroutine does all of it, loop.
type supervisor struct {
	o        options
	settings settings
	logger   hclog.Logger
	manager  manager
	self     string // our program, as it was called when we started
	public   *listener
	keeper   *takenPlace
	signals  chan os.Signal
	denies   bool          // the policy that we started with has [guard]
	synced   chan struct{} // capacity 1: the keeper has all that a broker holds,
	syncedBy atomic.Int32  // and the broker has this pid

	broker   *child           // nil: none runs
	again    <-chan time.Time // when the next one is started
	failures int              // brokers in a row that ended soon
	served   bool             // one was ready: the socket has its name, and there may be locks to lose
	drained  bool             // the last one let go of everything
	hangup   bool             // SIGHUP came too early for the broker
	stopping bool
	drains   int // brokers told to drain since stopping
	upgrade  upgrade
	guards   guards

	over   bool // the loop ends, with
	result error
}

// supervise runs keeper and broker until SIGTERM or SIGINT.
func supervise(o options, m manager, stderr io.Writer) error {
	unix.Umask(0o077) // as in the broker
	s := &supervisor{
		o: o, logger: newLogger(o, stderr), manager: m,
		signals: make(chan os.Signal, 16), synced: make(chan struct{}, 1),
	}
	// Before anything that a signal could interrupt half-way.
	signal.Notify(s.signals, heeded...)
	var err error
	if s.self, err = os.Executable(); err != nil {
		return fmt.Errorf("find our own program: %w", err)
	}
	carried, err := s.takeCarried()
	if err == nil && !carried {
		err = s.takePlaces()
	}
	defer s.release()
	if err != nil {
		return err
	}
	server := keeper.Server{Warn: s.logger.Warn, Synced: func(pid int32) {
		s.syncedBy.Store(pid)
		select {
		case s.synced <- struct{}{}:
		default: // the loop will see the newest
		}
	}}
	keeping, stopKeeping := context.WithCancel(context.Background())
	kept := make(chan error, 1) // so that it ends though the loop has ended
	go func() { kept <- server.Serve(keeping, s.keeper.UnixListener) }()
	defer func() { <-kept }()
	defer stopKeeping()
	defer s.endGuard()
	if !carried {
		if err := s.takeOver(); err != nil {
			return err
		}
		s.wantGuard(s.denies) // as the broker will say, which may hold bundles from the beginning
		s.start()
	}
	s.loop(kept)
	return s.result
}

// takePlaces settles where everything is and takes the right to it: the socket's name, then the state directory.
func (s *supervisor) takePlaces() error {
	policy, _, err := loadPolicy(s.o)
	if err != nil {
		return err
	}
	if s.settings, err = s.o.settle(policy); err != nil {
		return err
	}
	s.denies = len(policy.Guard) > 0
	// First of all the right to the socket's name: a second lockerd is told so, and leaves nothing behind.
	if s.public, err = listen(s.settings, false); err != nil {
		return err
	}
	if err := s.meetOrphan(); err != nil {
		return err
	}
	if err := makeStateDir(s.settings.stateDir); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	s.keeper, err = keepBeside(s.settings, s.public.lock < 0)
	return err
}

func (s *supervisor) release() {
	if s.public != nil {
		s.public.release()
	}
	if s.keeper != nil {
		s.keeper.release()
	}
}

// loop does one thing after the other until it is over: no broker runs then that is ours to end.
func (s *supervisor) loop(kept chan error) {
	for !s.over {
		var says chan string
		if s.broker != nil {
			says = s.broker.says
		}
		select {
		case sig := <-s.signals:
			s.heed(sig)
		case text, alive := <-says:
			if alive {
				s.hear(text)
			} else {
				s.ended()
			}
		case <-s.again:
			s.start()
		case _, alive := <-s.guards.says():
			s.heardGuard(alive)
		case <-s.guards.again:
			s.startGuard()
		case <-s.synced:
		case err := <-s.upgrade.tried:
			s.tried(err)
		case err := <-kept: // out of all that it could do without
			kept <- err
			s.logger.Error("the keeper stopped", "error", err)
			s.finish(err)
		}
		s.goOnUpgrading()
	}
}
