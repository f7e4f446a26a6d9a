package broker

import "time"

// times is how long is waited for what takes a moment on a machine that is not busy. Tests that do not ask about that have more of it.
type times struct {
	open   time.Duration // see openWait
	write  time.Duration // see writeDeadline
	guard  time.Duration // see guardPatience
	paused time.Duration // see pausedNonBlock
	server time.Duration // see networkPatience
}

var theTimes = times{open: openWait, write: writeDeadline, guard: guardPatience, paused: pausedNonBlock, server: networkPatience}
