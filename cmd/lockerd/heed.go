package main

import (
	"os"

	"golang.org/x/sys/unix"
)

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
