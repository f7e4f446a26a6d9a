package client

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// The second connection is made as carefully as the first, on sockets of the kernel's.

// greetOne accepts and greets one client at l.
func greetOne(t *testing.T, l net.Listener, session uint64) *fake {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &fake{t, conn}
	s.welcomeAs(wire.Version, session)
	return s
}

// dialed gives a Client that holds /a under 4 with the lockerd at l.
func dialed(t *testing.T, l net.Listener) (*Client, *Lock, *fake) {
	t.Helper()
	done := start(func() (*Client, error) { return Dial(t.Context(), l.Addr().String()) })
	s := greetOne(t, l, firstSession)
	got := <-done
	if got.err != nil {
		t.Fatal("Dial:", got.err)
	}
	t.Cleanup(func() { got.value.Close() })
	return got.value, held(t, got.value, s, Request{Paths: []string{"/a"}}, 4), s
}

// closeOnExec fails unless the client's connection is not passed on to programs that we start.
func closeOnExec(t *testing.T, c *Client) {
	t.Helper()
	c.mu.Lock()
	conn := c.link.conn.(*net.UnixConn)
	c.mu.Unlock()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor flags %#x, %v: want FD_CLOEXEC", flags, err)
		}
	})
}

func TestEveryConnectionIsCloseOnExec(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, lock, s := dialed(t, l)
	closeOnExec(t, c)
	s.conn.Close()
	s = greetOne(t, l, 8)
	s.resumes(firstSession, 4)
	s.works(c)
	closeOnExec(t, c)
	select {
	case loss := <-lock.Lost():
		t.Errorf("lost: %v", loss)
	default:
	}
}

// The socket is made anew by the next lockerd, and cannot be connected to in between.
func TestTheSocketMayBeAnother(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	c, _, s := dialed(t, l)
	l.Close() // and remove the socket
	s.conn.Close()
	if l, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s = greetOne(t, l, 8)
	s.resumes(firstSession, 4)
	s.works(c)
}

// A connection that was reset, since lockerd had not read all, is as good as one that has ended.
func TestAResetIsAnEndToo(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, _, s := dialed(t, l)
	done := start(func() (*Status, error) { return c.Status(t.Context()) })
	one := make([]byte, 1)
	if _, err := s.conn.Read(one); err != nil {
		t.Fatal(err)
	}
	s.conn.Close() // unix(7): the rest of the request was unread, so the client sees ECONNRESET
	s = greetOne(t, l, 8)
	s.resumes(firstSession, 4)
	id, _ := expect[*wire.Status](s)
	s.say(id, &wire.StatusReply{})
	if got := <-done; got.err != nil {
		t.Error("Status:", got.err)
	}
}

func TestNobodyElseIsAskedAgain(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "locker") // t.TempDir's parent is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	ours, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	c, lock, s := dialed(t, ours)
	ours.Close()
	theirs := listenAs(t, stranger, socket)
	defer theirs.Close()
	began := time.Now()
	s.conn.Close()
	loss := <-lock.Lost()
	if loss.Cause != Disconnected || !errors.Is(loss, ErrUntrusted) {
		t.Errorf("loss %+v, want ErrUntrusted", loss)
	}
	if d := time.Since(began); d > patience/2 {
		t.Errorf("the stranger was asked for %v", d)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("Status = %v, want ErrUntrusted", err)
	}
	conn, err := theirs.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, _ := conn.Read(make([]byte, 1)); n > 0 {
		t.Error("the stranger was told something")
	}
}

// Dial itself meets lockerds that die.

func TestDialWaitsForALockerdThatIsRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, came: make(chan net.Conn)}
		done := start(func() (*Client, error) { return Dial(t.Context(), "host", at(h.open)) })
		h.accept().conn.Close()
		s := h.accept()
		h.deaf.Store(true)
		expect[*wire.Hello](s)
		s.conn.Close()
		<-time.After(10 * time.Second) // virtual
		h.deaf.Store(false)
		s = h.accept()
		s.welcome()
		got := <-done
		if got.err != nil {
			t.Fatal("Dial:", got.err)
		}
		s.works(got.value)
		got.value.Close()
	})
}

func TestDialHasThePatienceOfAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, came: make(chan net.Conn)}
		for _, patient := range []bool{true, false} {
			ctx, cancel := context.WithTimeout(t.Context(), patience/2)
			if patient {
				ctx = t.Context()
			}
			h.deaf.Store(false)
			done := start(func() (*Client, error) { return Dial(ctx, "host", at(h.open)) })
			s := h.accept()
			h.deaf.Store(true)
			began := time.Now()
			s.conn.Close()
			err := (<-done).err
			d, want := time.Since(began), patience/2
			if patient {
				want = patience
			}
			if d != want || !errors.Is(err, ErrUnreachable) || errors.Is(err, context.DeadlineExceeded) == patient {
				t.Errorf("Dial = %v after %v, want ErrUnreachable after %v", err, d, want)
			}
			cancel()
		}
	})
}

func TestDialDoesNotWaitForALockerdThatIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{t: t, came: make(chan net.Conn)}
		h.deaf.Store(true)
		if _, err := Dial(t.Context(), "host", at(h.open)); !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Dial = %v, want ErrUnreachable and ECONNREFUSED", err)
		}
		if n := h.attempts.Load(); n != 1 {
			t.Errorf("%d attempts, want 1", n)
		}
	})
}
