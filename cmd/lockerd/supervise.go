package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"locker/keeper"
)

// supervisor is lockerd in the foreground: the keeper, and the parent of the broker. One goroutine does all of it, loop.
type supervisor struct {
	o        options
	settings settings
	logger   hclog.Logger
	manager  manager
	self     string // our program, as it was called when we started
	public   *listener
	keeper   *keeperPlace
	signals  chan os.Signal
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

	over   bool // the loop ends, with
	result error
}

// supervise runs keeper and broker until SIGTERM or SIGINT.
func supervise(o options, stderr io.Writer) error {
	unix.Umask(0o077) // as in the broker
	s := &supervisor{
		o: o, logger: newLogger(o, stderr), manager: newManager(),
		signals: make(chan os.Signal, 16), synced: make(chan struct{}, 1),
	}
	// Before anything that a signal could interrupt half-way.
	signal.Notify(s.signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR2)
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
	if !carried {
		if err := s.takeOver(); err != nil {
			return err
		}
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
	// First of all the right to the socket's name: a second lockerd is told so, and leaves nothing behind.
	if s.public, err = listen(s.settings, false); err != nil {
		return err
	}
	if s.public.left && logHolder(s.settings.auditDir) == 0 { // whatever listens there has nothing to do with this state
		return anotherProgram(s.settings.socket, serverOf(s.settings.socket))
	}
	if err := makeStateDir(s.settings.stateDir); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	s.keeper, err = takeKeeper(s.settings.keeperSocket())
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

// start starts a broker. One that cannot be started is tried again like one that has ended.
func (s *supervisor) start() {
	s.again = nil
	c, err := startChild(s.o.brokerArgs(s.settings, s.keeper.path, !s.served), s.public.UnixListener)
	switch {
	case err == nil:
		s.broker = c
	case !s.served:
		s.finish(err)
	default:
		s.logger.Error("start the broker", "error", err)
		s.startLater(false)
	}
}

// startLater starts the next broker: at once after the first failure, then ever later, so that one that cannot run does not
// keep the machine busy.
func (s *supervisor) startLater(wasReady bool) {
	pause, most := time.Millisecond, time.Second
	if wasReady {
		most = 20 * time.Millisecond // somebody kills it, and clients wait
	}
	pause = min(pause<<min(s.failures, 16), most)
	if s.failures == 0 {
		pause = 0
	}
	s.failures++
	s.again = time.After(pause)
}

// heed does what a signal asks for.
func (s *supervisor) heed(sig os.Signal) {
	switch sig {
	case unix.SIGHUP:
		s.hangup = true
		s.passHangup()
	case unix.SIGUSR2:
		s.beginUpgrade()
	default:
		if !s.stopping {
			s.stopping = true
			s.manager.say("STOPPING=1")
			s.drain()
		}
	}
}

// passHangup passes SIGHUP on to a broker that knows what it means: before it is ready it would die of it.
func (s *supervisor) passHangup() {
	if s.hangup && s.broker != nil && s.broker.ready {
		s.hangup = false
		s.broker.process.Signal(unix.SIGHUP)
	}
}

// drain has the broker let go of everything in order. If none can, the locks end with us.
func (s *supervisor) drain() {
	const enough = 3 // brokers that ended without having drained
	switch {
	case s.broker != nil && (s.broker.ready || !s.served):
		s.broker.process.Signal(unix.SIGINT)
	case s.broker != nil: // it will be told when it is ready: before that it would die of it
	case s.served && !s.drained && s.drains < enough:
		s.drains++
		s.start()
	default:
		s.finish(nil)
	}
}

// hear takes in what the broker says, in the words of sd_notify(3), and passes it on.
func (s *supervisor) hear(text string) {
	word, _, _ := strings.Cut(text, "\n")
	switch word {
	case "READY=1":
		s.broker.ready = true
		if err := s.public.publish(); err != nil {
			s.finish(err)
			return
		}
		s.served = true
		if s.stopping {
			s.drain()
			return
		}
		s.upgradedBroker()
		s.manager.say(text)
		s.passHangup()
	case "STOPPING=1": // we say that ourselves, when it is true of all of us
	case saysDrained:
		s.broker.drained = true
	default:
		s.manager.say(text)
	}
}

// ended looks at how the broker has ended, and starts the next.
func (s *supervisor) ended() {
	c := s.broker
	s.broker, s.drained = nil, s.broker.drained
	how, code := c.howItEnded()
	switch {
	case s.stopping && (c.drained || !s.served):
		s.finish(exitError(code))
		return
	case s.stopping:
		s.logger.Warn("the broker ended before it had let go of everything; another one does it", "how", how)
		s.drain()
		return
	case !s.served && code > 0: // a policy, a log or a place that cannot be used: it has said so
		s.finish(exitError(code))
		return
	}
	log := s.logger.Info
	if code != 0 {
		log = s.logger.Warn
	}
	log("the broker ended; it is started again", "how", how)
	if c.drained {
		// Not by us: SIGINT of a terminal goes to both, and ours may be seen a little later.
		s.again = time.After(100 * time.Millisecond)
		return
	}
	if c.ready && time.Since(c.started) >= time.Second {
		s.failures = 0
	}
	s.startLater(c.ready)
}

// exitError is the end of a broker as an error of ours; a signal is none.
func exitError(code int) error {
	if code <= 0 {
		return nil
	}
	return exitCode(code)
}

// finish ends the loop.
func (s *supervisor) finish(err error) {
	s.over, s.result = true, err
	if s.broker == nil {
		return
	}
	// Something of ours is broken, and nobody would keep what the broker holds: it lets go in order.
	s.broker.process.Signal(unix.SIGINT)
	for range s.broker.says {
	}
	s.broker = nil
}
