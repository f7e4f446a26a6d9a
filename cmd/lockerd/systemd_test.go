package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Who starts it again at once would do so ten times a second, with lines in the journal each time.
func TestWhoCannotStartSparesItsServiceManagerASecond(t *testing.T) {
	for _, c := range []struct {
		address string
		ends    time.Duration // when it is told to end; 0: it is not
		want    time.Duration
	}{
		{"/run/notify", 0, time.Second},
		{"/run/notify", time.Millisecond, time.Millisecond},
		{"", 0, 0}, // of its own parent, or of a terminal
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if c.ends > 0 {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, c.ends)
				defer stop()
			}
			began := time.Now()
			manager{supervisor: -1, address: c.address}.spare(ctx)
			if got := time.Since(began); got != c.want {
				t.Errorf("manager %q, told to end after %v: it waits %v, want %v", c.address, c.ends, got, c.want)
			}
		})
	}
}
