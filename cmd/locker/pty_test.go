package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is the far end of a pseudoterminal on which a command runs: pty(7).
type terminal struct {
	t    *testing.T
	keys *os.File // what we type
	done chan struct{}

	mu     sync.Mutex // guards screen
	screen strings.Builder
}

// onTerminal starts cmd as the leader of a new session whose controlling terminal is a new pseudoterminal.
func onTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("needs a pseudoterminal:", err)
	}
	t.Cleanup(func() { keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	near, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	if err := unix.IoctlSetWinsize(int(near.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	if cmd.Stdin == nil {
		cmd.Stdin = near
	}
	if cmd.Stdout == nil {
		cmd.Stdout = near
	}
	cmd.Stderr = near
	cmd.ExtraFiles = nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 2}
	cmd.Env = append(cmd.Environ(), "TERM=xterm", "PS1=$ ")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, keys: keys, done: make(chan struct{})}
	go func() { // ends when nobody has the near end open any more: EIO
		defer close(x.done)
		buf := make([]byte, 4096)
		for {
			n, err := keys.Read(buf)
			x.mu.Lock()
			x.screen.Write(buf[:n])
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return x
}

func (x *terminal) types(s string) {
	x.t.Helper()
	if _, err := x.keys.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.String()
}

// shows waits until the screen has had text.
func (x *terminal) shows(text string) {
	x.t.Helper()
	defer func() {
		if x.t.Failed() {
			x.t.Logf("screen: %q", x.text())
		}
	}()
	eventually(x.t, fmt.Sprintf("the terminal shows %q", text), func() bool { return strings.Contains(x.text(), text) })
}
