package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// place gives a directory with a short name: unix(7) allows 107 bytes.
func place(t *testing.T) settings {
	t.Helper()
	dir, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return settings{socket: dir + "/s", socketName: dir + "/s", mode: 0o660, group: -1}
}

func mustListen(t *testing.T, s settings) *listener {
	t.Helper()
	l, err := listen(s, false)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func TestSocketAppearsOnlyWhenItIsPublishedWithItsMode(t *testing.T) {
	s := place(t)
	l := mustListen(t, s)
	defer l.release()
	if exists(s.socket) {
		t.Fatal("it is there before it was published")
	}
	if err := l.publish(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(s.socket)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("mode %v, %v, want a socket with 0660", info.Mode(), err)
	}
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestReleaseLeavesNoSocketWhetherPublishedOrNot(t *testing.T) {
	for _, published := range []bool{false, true} {
		s := place(t)
		l := mustListen(t, s)
		if published {
			if err := l.publish(); err != nil {
				t.Fatal(err)
			}
		}
		l.release()
		if exists(s.socket) || exists(s.socket+newSuffix) {
			t.Errorf("published %v: a socket is left", published)
		}
		mustListen(t, s).release()
	}
}

func TestOneServerOwnsASocketsName(t *testing.T) {
	s := place(t)
	first := mustListen(t, s)
	defer first.release()
	// Before it is published, and after.
	for range 2 {
		second, err := listen(s, false)
		if err == nil {
			second.release()
			t.Fatal("two servers have the name")
		}
		if !strings.Contains(err.Error(), "another lockerd serves") {
			t.Errorf("error %q", err)
		}
		if err := first.publish(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, err := listen(s, false); !strings.Contains(err.Error(), "(pid "+strconv.Itoa(os.Getpid())+")") {
		t.Errorf("error %q does not name the process", err)
	}
}

func TestSocketOfAProgramWithoutOurLockIsLeftAlone(t *testing.T) {
	s := place(t)
	other, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(s, false); err == nil || !strings.Contains(err.Error(), "another program serves") {
		t.Errorf("error %v", err)
	}
	// When it has gone, what it left is replaced.
	other.(*net.UnixListener).SetUnlinkOnClose(false)
	other.Close()
	l := mustListen(t, s)
	defer l.release()
	if err := l.publish(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoSocketIsNotReplaced(t *testing.T) {
	s := place(t)
	if err := os.WriteFile(s.socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(s, false); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("error %v", err)
	}
	if text, _ := os.ReadFile(s.socket); string(text) != "precious" {
		t.Errorf("the file holds %q now", text)
	}
}

func TestSocketsDirectoryMayNotBeWritableByOthers(t *testing.T) {
	for mode, fine := range map[os.FileMode]bool{0o755: true, 0o700: true, 0o777: false, 0o775: false, 0o777 | os.ModeSticky: true} {
		s := place(t)
		if err := os.Chmod(filepath.Dir(s.socket), mode); err != nil {
			t.Fatal(err)
		}
		l, err := listen(s, false)
		if (err == nil) != fine {
			t.Errorf("mode %v: error %v", mode, err)
		}
		if err == nil {
			l.release()
		}
	}
}

func TestPlantedLinkInPlaceOfTheNamesLockIsNotFollowed(t *testing.T) {
	for what, link := range map[string]func(old, new string) error{"symbolic": os.Symlink, "hard": os.Link} {
		s := place(t)
		victim := filepath.Join(filepath.Dir(s.socket), "victim")
		if what == "hard" { // the other one may lead to what is to be made
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := link(victim, s.socket+lockSuffix); err != nil {
			t.Fatal(err)
		}
		if l, err := listen(s, false); err == nil {
			l.publish()
			l.release()
			t.Errorf("a %s link was followed", what)
		}
		if text, _ := os.ReadFile(victim); what == "hard" && string(text) != "precious" || what == "symbolic" && exists(victim) {
			t.Errorf("what a %s link leads to holds %q", what, text)
		}
	}
}

func TestBrokerOfAKilledServerIsKnownByWhoListened(t *testing.T) {
	s := place(t)
	first := mustListen(t, s)
	if err := first.publish(); err != nil {
		t.Fatal(err)
	}
	// The process dies: the right to the name is free, and somebody who inherited the socket listens on.
	unix.Close(first.lock)
	first.lock = -1
	second := mustListen(t, s)
	if !second.left {
		t.Error("what is left of a lockerd is not known as that")
	}
	second.release()
	if !exists(s.socket) {
		t.Error("who found it has removed its socket")
	}
	third := mustListen(t, s) // still known, though somebody has been there
	defer third.release()
	if !third.left {
		t.Error("the second look does not know it any more")
	}
	first.Close()
}

// Before the socket has its name, anybody can put something there if the directory is one like /tmp.
func TestNothingButASocketOfOursIsDressed(t *testing.T) {
	s := place(t)
	victim := filepath.Join(filepath.Dir(s.socket), "victim")
	socketOfAnother := filepath.Join(filepath.Dir(s.socket), "another")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketOfAnother, Net: "unix"})
	if err := errors.Join(err, os.Chmod(socketOfAnother, 0o600)); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for what, plant := range map[string]func() error{
		"a link to a file":          func() error { return os.Symlink(victim, s.socket) },
		"a link to a socket":        func() error { return os.Symlink(socketOfAnother, s.socket) },
		"a second name of a file":   func() error { return os.Link(victim, s.socket) },
		"a second name of a socket": func() error { return os.Link(socketOfAnother, s.socket) },
		"a file":                    func() error { return os.WriteFile(s.socket, nil, 0o600) },
		"a socket of somebody else": func() error {
			if os.Geteuid() != 0 { // only root can make one
				return os.Symlink(socketOfAnother, s.socket)
			}
			theirs, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(theirs)
			return errors.Join(unix.Bind(theirs, &unix.SockaddrUnix{Name: s.socket}), os.Chmod(s.socket, 0o600), os.Chown(s.socket, 54321, -1))
		},
	} {
		if err := plant(); err != nil {
			t.Fatal(what, err)
		}
		if err := s.dress(s.socket); err == nil {
			t.Errorf("%s was dressed", what)
		}
		for _, name := range []string{victim, socketOfAnother, s.socket} {
			info, err := os.Lstat(name)
			if err != nil || info.Mode()&os.ModeSymlink == 0 && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s has mode %v, %v", what, name, info.Mode(), err)
			}
		}
		os.Remove(s.socket)
		os.Chmod(victim, 0o600)
		os.Chmod(socketOfAnother, 0o600)
	}
}
