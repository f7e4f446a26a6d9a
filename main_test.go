package locker_test

import (
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary play other programs for itself.
func TestMain(m *testing.M) {
	if benchMain() { // a server or a load of the benchmark
		return
	}
	if play() { // a program that a script runs
		return
	}
	// Whoever started us may have had these ignored, which is inherited (nohup(1), "&" without job control); what we start is interrupted.
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGQUIT, unix.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // heard, and not heeded, by us
		}
	}
	os.Exit(m.Run())
}
