package authz

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketsThatAreNotAcceptedAreRefused(t *testing.T) {
	s := newStage(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(bound, &unix.SockaddrUnix{Name: filepath.Join(s.dir, "bound")})
	}
	if err != nil {
		t.Fatal(err)
	}
	datagram, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(datagram, &unix.SockaddrUnix{Name: filepath.Join(s.dir, "datagram")})
	}
	if err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	client, err := connect(s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.accept()
	closed, _ := unix.Dup(client)
	unix.Close(closed)
	fds := map[string]int{
		"socketpair": pair[0], "its other end": pair[1], "never connected": fresh, "bound, never connected": bound,
		"datagram": datagram, "pipe": pipe[0], "listener": s.listener, "the client's end": client, "closed": closed, "none": -1,
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		defer l.Close()
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		in, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		f, err := in.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds["tcp"] = int(f.Fd())
	}
	for what, fd := range fds {
		if p, err := PeerOf(fd); err == nil || p.Known() || p.UID != 0 || p.PidFD != 0 {
			t.Errorf("%s: %+v %v", what, p, err)
		}
	}
	for _, fd := range []int{pair[0], pair[1], fresh, bound, datagram, pipe[0], pipe[1], client} {
		unix.Close(fd)
	}
}

func TestAbstractListenerIsAccepted(t *testing.T) {
	name := fmt.Sprintf("@authz-test-%d", os.Getpid())
	l, err := listen(name)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	client, err := connect(name)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client)
	fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p, err := PeerOf(fd)
	if err != nil || p.PID != int32(os.Getpid()) {
		t.Errorf("%+v %v", p, err)
	}
	unix.Close(p.PidFD)
}

// A client may bind its own socket to a name that looks like somebody's identity.
func TestAddressOfTheClientMeansNothing(t *testing.T) {
	s := newStage(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(s.dir, "x;uid=0;")}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: s.path}); err != nil {
		t.Fatal(err)
	}
	if p := s.peer(s.accept()); p.UID != uint32(os.Geteuid()) {
		t.Errorf("%+v", p)
	}
}
