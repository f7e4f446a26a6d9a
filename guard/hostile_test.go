package guard

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ends are those of a connection.
func ends(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		conn, err := net.FileConn(f)
		must(t, err)
		f.Close()
		conns[i] = conn.(*net.UnixConn)
		t.Cleanup(func() { conn.Close() })
	}
	return conns[0], conns[1]
}

// stranger connects without the manners of a Conn.
func (r *rig) stranger() *net.UnixConn {
	r.t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: r.path, Net: "unixpacket"})
	must(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

// sendRaw is sendmsg(2).
func sendRaw(conn *net.UnixConn, packet []byte, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		_, sendErr = unix.SendmsgN(int(fd), packet, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	})
	return errors.Join(err, sendErr)
}

// wantEnded waits until the guard has ended the connection.
func wantEnded(t testing.TB, conn *net.UnixConn) {
	t.Helper()
	for {
		n, err := conn.Read(make([]byte, maxMessage))
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
			return
		}
		if n == 0 {
			return
		}
	}
}

func TestABrokerThatSendsNonsenseIsSentAwayAndGuardsNothing(t *testing.T) {
	needGuard(t)
	b := newBundle(t, 1)
	dir := openDir(t, b.root)
	defer unix.Close(dir)
	many := func(n int) (fds []int) {
		for range n {
			fds = append(fds, dir)
		}
		return fds
	}
	guard := func(set uint8) []byte {
		return appendMessage(nil, &message{kind: kindGuard, number: 9, set: set, id: 9})
	}
	for _, c := range []struct {
		name   string
		packet []byte
		fds    []int
		warns  bool
	}{
		{"empty", nil, nil, false},
		{"one byte", []byte{1}, nil, true},
		{"noise", []byte(strings.Repeat("locker", 100)), nil, true},
		{"too long", make([]byte, maxMessage+1), nil, true},
		{"much too long", make([]byte, 100_000), many(3), true},
		{"guard without descriptors", guard(2), nil, true},
		{"guard with too few", guard(2), many(1), true},
		{"guard with too many", guard(2), many(3), true},
		{"guard with more than there may be", guard(16), many(17), true},
		{"guard with 253", guard(16), many(253), true},
		{"ping with a descriptor", appendMessage(nil, &message{kind: kindPing, number: 9}), many(1), true},
		{"an answer", appendMessage(nil, &message{kind: kindAnswer, number: 9, code: codeOK}), nil, true},
		{"a refusal", appendMessage(nil, &message{kind: kindRefused, count: 1}), nil, true},
		{"a failure", appendMessage(nil, &message{kind: kindFailedOpen}), nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaksNothing(t, func(t *testing.T) {
				r := newRig(t).serve()
				conn := r.stranger()
				must(t, sendRaw(conn, appendMessage(nil, &message{kind: kindDeny, number: 1, paths: []string{"/usr/sbin/smbd"}})))
				must(t, sendRaw(conn, appendMessage(nil, &message{kind: kindGuard, number: 2, set: 1, id: 1}), dir))
				must(t, sendRaw(conn, c.packet, c.fds...))
				wantEnded(t, conn)
				wantMarks(t)
				// And the next is served as if nothing had been.
				d := r.denying("/usr/sbin/smbd")
				b.guard(d, 1)
				must(t, d.Close())
				r.stop()
				if w := r.warned(); (w != "") != c.warns {
					t.Errorf("warned of %q", w)
				}
			})
		})
	}
}

// What it had asked for is not done for it.
func TestADeadBrokersRequestsAreNotDone(t *testing.T) {
	needGuard(t)
	leaksNothing(t, func(t *testing.T) {
		r := newRig(t)
		conn := r.stranger()
		b := newBundle(t, 1)
		dir := openDir(t, b.root)
		defer unix.Close(dir)
		must(t, sendRaw(conn, appendMessage(nil, &message{kind: kindDeny, number: 1, paths: []string{"/usr/sbin/smbd"}})))
		for id := range uint64(10) {
			must(t, sendRaw(conn, appendMessage(nil, &message{kind: kindGuard, number: 2, set: 1, id: id + 1}), dir))
		}
		// Which would be warned of.
		must(t, sendRaw(conn, appendMessage(nil, &message{kind: kindAnswer, number: 9, code: codeOK})))
		must(t, conn.Close())
		r.serve()
		must(t, r.denying("/usr/sbin/smbd").Ping(soonContext(t)))
		wantMarks(t)
		r.stop()
		if w := r.warned(); w != "" {
			t.Error(w)
		}
	})
}

// It does not wait for a broker, and keeps nothing for it.
func TestABrokerThatDoesNotReadIsSentAway(t *testing.T) {
	r := newRig(t).serve()
	conn := r.stranger()
	for n := uint32(1); ; n++ {
		err := sendRaw(conn, appendMessage(nil, &message{kind: kindPing, number: n | 1}))
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			break
		}
		if err != nil {
			runtime.Gosched() // its queue is full, and it is about to read
		}
	}
	must(t, r.dial().Ping(soonContext(t)))
	if w := r.warned(); !strings.Contains(w, "does not read") {
		t.Errorf("warned of %q", w)
	}
}

func TestStrangersAreSentAwayAndTheConfiguredBrokerIsNot(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("LOCKER_TEST_ALL") != "" {
			t.Fatal("needs root: acting as other users")
		}
		t.Skip("needs root: acting as other users")
	}
	r := newRig(t)
	r.s.BrokerUID = 65532
	must(t, os.Chmod(filepath.Dir(r.path), 0o755))
	must(t, os.Chmod(r.path, 0o666))
	r.serve()
	as := func(uid uint32, do func()) {
		done := make(chan syscall.Errno)
		go func() {
			runtime.LockOSThread() // for ever: the thread ends with this goroutine, and its ids with it
			const same = ^uintptr(0)
			_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same) // of this thread alone
			if errno == 0 {
				do()
			}
			done <- errno
		}()
		if errno := <-done; errno != 0 {
			t.Fatal(errno)
		}
	}
	ping := func() (err error) {
		c, err := Dial(t.Context(), r.path)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Ping(soonContext(t))
	}
	for uid, want := range map[uint32]error{65533: ErrGone, 65534: ErrGone, 65532: nil, 0: nil} {
		as(uid, func() {
			if err := ping(); !errors.Is(err, want) {
				t.Errorf("uid %d: %v; want %v", uid, err, want)
			}
		})
	}
	if w := r.warned(); strings.Count(w, "stranger") != 2 {
		t.Errorf("warned of %q", w)
	}
	// In the other direction: whom a broker takes for the guard.
	var l *net.UnixListener
	path := filepath.Join(filepath.Dir(r.path), "false.sock")
	must(t, os.Chmod(filepath.Dir(r.path), 0o777))
	as(65533, func() { l = listen(t, path) })
	defer l.Close()
	if _, err := Dial(t.Context(), path); err == nil || !strings.Contains(err.Error(), "65533") {
		t.Errorf("a false guard: %v", err)
	}
}

// FuzzLive: whatever a broker sends, the guard comes to its end, closes all descriptors that came, and leaves no mark.
//
// A frame is a length of two bytes, of which the top two bits say how many descriptors come with it, and its bytes; the checksum
// is put right when bit 13 says so.
func FuzzLive(f *testing.F) {
	frame := func(b []byte, fds int, sum bool) []byte {
		head := uint16(len(b)) | uint16(fds)<<14
		if sum {
			head |= 1 << 13
		}
		return append(binary.BigEndian.AppendUint16(nil, head), b...)
	}
	var all []byte
	for _, v := range readVectors(f) {
		if len(v.bytes) >= 1<<13 {
			continue
		}
		for fds := range 4 {
			f.Add(frame(v.bytes, fds, false))
			f.Add(frame(v.bytes[:max(0, len(v.bytes)-sumSize)], fds, true))
		}
		if v.err == "" && v.bytes[1] < 0x80 {
			all = append(all, frame(v.bytes, 2, false)...)
		}
	}
	f.Add(all)
	ask := func(m message) []byte { return appendMessage(nil, &m) }
	good := frame(ask(message{kind: kindDeny, number: 1, paths: []string{"/usr/sbin/smbd"}}), 0, false)
	for id := uint64(1); id < 4; id++ {
		good = append(good, frame(ask(message{kind: kindGuard, number: 2, set: uint8(id), id: id}), int(id), false)...)
		good = append(good, frame(ask(message{kind: kindGuard, number: 3, set: 1, id: id}), 1, false)...)
		good = append(good, frame(ask(message{kind: kindLift, number: 4, id: id - id/3}), 0, false)...)
	}
	f.Add(good)
	b := newBundle(f, 1)
	dirs := append(b.dirs(), openDir(f, b.root))
	f.Cleanup(func() { closeAll(dirs) })
	once := func(t *testing.T, b []byte) {
		broker, end := ends(t)
		s := &Server{spared: true, patience: soon, interval: soon}
		done := make(chan struct{})
		go func() {
			s.serve(t.Context(), end, nil)
			close(done)
		}()
		for len(b) >= 2 {
			head := binary.BigEndian.Uint16(b)
			n := min(int(head&(1<<13-1)), len(b)-2)
			packet := b[2 : 2+n]
			b = b[2+n:]
			if head>>13&1 == 1 {
				packet = withSum(packet)
			}
			if sendRaw(broker, packet, dirs[:head>>14]...) != nil {
				break // the queue is full, or it has ended
			}
		}
		// A half close: a guard does not serve who is gone.
		must(t, broker.CloseWrite())
		<-done
		must(t, broker.Close())
		if got, group := marks(t, os.Getpid()); group {
			t.Fatalf("left behind: %v", got)
		}
	}
	warm := false
	f.Fuzz(func(t *testing.T, b []byte) {
		if !warm {
			once(t, b)
			warm = true
		}
		before := openFDs(t)
		once(t, b)
		if after := openFDs(t); after != before {
			t.Fatalf("%d descriptors were open before, %d are after", before, after)
		}
	})
}

// FuzzAnswers: whatever a guard says, a Conn comes to its end, and nobody waits.
func FuzzAnswers(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.bytes[:max(0, len(v.bytes)-sumSize)], v.bytes)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		broker, end := ends(t)
		c, err := newConn(broker, 0)
		must(t, err)
		answered := make(chan error, 1)
		go func() { answered <- c.Ping(t.Context()) }()
		_, err = end.Read(make([]byte, maxMessage))
		must(t, err)
		sendRaw(end, withSum(first))
		sendRaw(end, second)
		must(t, end.Close())
		<-answered
		<-c.Gone()
		for {
			if _, err := c.Next(t.Context()); err != nil {
				break
			}
		}
		must(t, c.Close())
	})
}
