package locker_test

import (
	"os"
	"testing"
)

// TestMain lets the test binary play other programs for itself.
func TestMain(m *testing.M) {
	if benchMain() { // a server or a load of the benchmark
		return
	}
	if play() { // a program that a script runs
		return
	}
	os.Exit(m.Run())
}
