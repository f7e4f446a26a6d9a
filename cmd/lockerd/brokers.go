package main

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The brokers of a supervisor, one after the other.

// start starts a broker. One that cannot be started is tried again like one that has ended.
func (s *supervisor) start() {
	s.again = nil
	c, err := startChild(s.o.brokerArgs(s.settings, s.keeper.path, s.guardSocket(), !s.served), s.public.UnixListener)
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

// hear takes in what the broker says, in the words of sd_notify(3), and passes it on.
func (s *supervisor) hear(text string) {
	word, _, _ := strings.Cut(text, "\n")
	if s.hearGuardWord(word) {
		return
	}
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
