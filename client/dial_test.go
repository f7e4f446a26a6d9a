package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// needRoot skips a law that only root can try; LOCKER_TEST_ALL makes that a failure.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		t.Fatal("needs root: LOCKER_TEST_ALL is set")
	}
	t.Skip("needs root: another user must listen")
}

// serve accepts connections at a new socket and welcomes them until the test ends.
func serve(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	acceptAll(t, l)
	return socket
}

// acceptAll welcomes whoever says hello at l, until the test ends.
func acceptAll(t *testing.T, l net.Listener) {
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				body, err := wire.ReadFrame(conn, nil)
				if err != nil {
					return // it went without a word
				}
				id, _, _ := wire.Parse(body)
				(&fake{t, conn}).say(id, &wire.Welcome{Version: wire.Version, Server: "fake", Session: 7})
				io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
}

func TestDialFindsTheSocketInTheEnvironment(t *testing.T) {
	t.Setenv(SocketEnv, "")
	if s := Socket(); s != DefaultSocket {
		t.Errorf("Socket() = %q", s)
	}
	t.Setenv(SocketEnv, serve(t))
	c, err := Dial(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if w := c.Welcome(); w.Server != "fake" || w.Session != 7 {
		t.Errorf("Welcome = %+v", w)
	}
}

func TestDialSaysWhyThereIsNoLockerd(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for socket, errno := range map[string]syscall.Errno{
		filepath.Join(dir, "none"): syscall.ENOENT,
		stale:                      syscall.ECONNREFUSED,
	} {
		_, err := Dial(t.Context(), socket)
		if !errors.Is(err, ErrUnreachable) || !errors.Is(err, errno) || !strings.Contains(err.Error(), socket) {
			t.Errorf("Dial(%s) = %v, want ErrUnreachable, %v and the socket", socket, err, errno)
		}
	}
}

const stranger = 65533 // a uid

// listenAs listens as another user.
func listenAs(t *testing.T, uid int, socket string) net.Listener {
	t.Helper()
	listening := make(chan net.Listener)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread, with its other uid, ends with the goroutine
		// The raw call changes this thread alone; listen(2) records its uid for SO_PEERCRED.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			t.Error("setresuid:", errno)
		}
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Error(err)
		}
		listening <- l
	}()
	l := <-listening
	if l == nil {
		t.FailNow()
	}
	return l
}

func TestDialRefusesAStrangersLockerd(t *testing.T) {
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
	acceptAll(t, listenAs(t, stranger, socket))
	c, err := Dial(t.Context(), socket)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "65533") {
		t.Errorf("Dial = %v, want ErrUntrusted that names the uid", err)
	}
	c, err = Dial(t.Context(), socket, TrustUID(stranger))
	if err != nil {
		t.Fatal("Dial with TrustUID:", err)
	}
	c.Close()
}

func TestDialWaitsWhileTheBacklogIsFull(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: socket}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		conn, err := net.Dial("unix", socket)
		if full = errors.Is(err, unix.EAGAIN); !full {
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
	}
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	if _, err := Dial(short, socket); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial = %v, want ErrUnreachable and its context's error", err)
	}
	done := start(func() (*Client, error) { return Dial(t.Context(), socket) })
	f := os.NewFile(uintptr(fd), "listener")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	acceptAll(t, l)
	got := <-done
	if got.err != nil {
		t.Fatal("Dial:", got.err)
	}
	got.value.Close()
}

func TestDialReportsTheRefusalOfAFullLockerd(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		(&fake{t, conn}).say(0, &wire.Error{Code: wire.CodeLimit, Text: "too many connections"})
		conn.Close() // without having read the Hello
	}()
	if _, err := Dial(t.Context(), l.Addr().String()); CodeOf(err) != CodeLimit {
		t.Errorf("Dial = %v, want CodeLimit", err)
	}
}

func TestDialEndsWithItsContextWhenLockerdIsMute(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, l.Addr().String()); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial = %v, want ErrUnreachable and its context's error", err)
	}
}
