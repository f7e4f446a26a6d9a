package main

import (
	"context"
	"errors"
	"io"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
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
			manager{supervisor: -1, address: c.address, pause: startPause}.spare(ctx)
			if got := time.Since(began); got != c.want {
				t.Errorf("manager %q, told to end after %v: it waits %v, want %v", c.address, c.ends, got, c.want)
			}
		})
	}
}

// heard is a standard error that does something as soon as it says what is wanted.
type heard struct {
	want string
	then func()
	text strings.Builder
}

func (h *heard) Write(p []byte) (int, error) {
	h.text.Write(p)
	if strings.Contains(string(p), h.want) && h.then != nil {
		h.then()
		h.then = nil
	}
	return len(p), nil
}

// Each says why at once, and then waits: if it waited first, or heeded no signal while it does, these would take an hour.
func TestWhoCannotStartSaysWhyAndEndsWhenItIsTold(t *testing.T) {
	t.Cleanup(func() { signal.Reset(unix.SIGHUP, unix.SIGINT, unix.SIGTERM) })
	nowhere := filepath.Join(t.TempDir(), "none", "place", "socket")
	o := options{keeper: nowhere, guard: nowhere, config: nowhere, configGiven: true, logLevel: "error", logForm: "text"}
	for name, serve := range map[string]func(options, manager, io.Writer) error{"keeper": keepAlone, "guard": guardBundles, "broker": serveClients} {
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
			said := heard{want: "lockerd: ", then: func() { unix.Kill(unix.Getpid(), sig) }}
			err := serve(o, manager{supervisor: -1, address: "/run/notify", pause: time.Hour}, &said)
			if told := exitCode(0); !errors.As(err, &told) || told != 1 || strings.Count(said.text.String(), "lockerd: ") != 1 {
				t.Errorf("the %s, ended by %v, gives %v and says %q", name, sig, err, said.text.String())
			}
		}
	}
}

// Nobody listens for signals yet then, and they kill.
func TestWrongWordsSpareTheServiceManagerToo(t *testing.T) {
	for address, want := range map[string]time.Duration{"/run/notify": startPause, "": 0} {
		t.Setenv("NOTIFY_SOCKET", address)
		for _, args := range [][]string{{"keeper", "--wrong"}, {"broker", "--wrong"}, {"guard", "--wrong"}, {"keeper", "--help"}} {
			synctest.Test(t, func(t *testing.T) {
				began, after := time.Now(), time.Hour
				said := heard{want: "--wrong", then: func() { after = time.Since(began) }}
				code := run(args, io.Discard, &said)
				got := time.Since(began)
				if args[1] == "--help" {
					if got != 0 || code != 0 {
						t.Errorf("manager %q: %v takes %v and exits with %d", address, args, got, code)
					}
				} else if got != want || after != 0 || code != 2 {
					t.Errorf("manager %q: %v takes %v, says why after %v and exits with %d; want %v, at once and 2", address, args, got, after, code, want)
				}
			})
		}
	}
}
