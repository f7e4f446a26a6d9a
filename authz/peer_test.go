package authz

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPeerIsWhoConnected(t *testing.T) {
	s := newStage(t)
	fd, err := connect(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := s.peer(s.accept())
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(groups)
	if p.UID != uint32(os.Geteuid()) || p.GID != uint32(os.Getegid()) || p.PID != int32(os.Getpid()) || !p.Known() {
		t.Errorf("%+v", p)
	}
	if fmt.Sprint(p.Groups) != fmt.Sprint(groups) {
		t.Errorf("groups %v, want %v", p.Groups, groups)
	}
	if p.PidFD < 0 {
		t.Skip("SO_PEERPIDFD is unknown here")
	}
	flags, err := unix.FcntlInt(uintptr(p.PidFD), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the pidfd is inherited: flags %#x %v", flags, err)
	}
}

func TestPeerOfAnotherUser(t *testing.T) {
	needRoot(t, "processes of other users")
	many := make([]uint32, 700)
	for i := range many {
		many[i] = uint32(5000 + i)
	}
	for _, c := range []struct {
		uid, gid uint32
		groups   []uint32
	}{
		{1000, 1000, nil},
		{1000, 100, []uint32{9, 7, 8}},
		{1001, 1002, []uint32{34}},
		{0, 1000, []uint32{34}},
		{1000, 0, nil},
		{2147483648, 4294967293, []uint32{4294967294}}, // above the sign bit
		{1000, 1000, many[:31]},
		{1000, 1000, many[:32]},
		{1000, 1000, many[:33]},
		{1000, 1000, many},
	} {
		s := newStage(t)
		child := s.start("connect", as(c.uid, c.gid, c.groups...))
		child.expect(t, "ready")
		p := s.peer(s.accept())
		want := slices.Sorted(slices.Values(c.groups))
		if p.UID != c.uid || p.GID != c.gid || !slices.Equal(p.Groups, want) || p.PID != int32(child.Process.Pid) || !p.Known() {
			t.Errorf("got %+v, want %+v", p, c)
		}
		child.end()
	}
}

func TestPeerWithAnOverflowIDIsRefused(t *testing.T) {
	needRoot(t, "processes of other users")
	for _, ids := range [][2]uint32{{65534, 1000}, {1000, 65534}, {65534, 65534}, {0, 65534}} {
		s := newStage(t)
		s.start("connect", as(ids[0], ids[1])).expect(t, "ready")
		p, err := PeerOf(s.accept())
		if !errors.Is(err, ErrPeerUnknown) || p.Known() {
			t.Errorf("%v: %+v %v", ids, p, err)
		}
	}
}

func TestPeerKeepsTheIdentityItConnectedWith(t *testing.T) {
	needRoot(t, "setuid(2)")
	s := newStage(t)
	child := s.start("drop", as(0, 0, 111, 222))
	child.expect(t, "now 1000")
	if p := s.peer(s.accept()); p.UID != 0 || !slices.Equal(p.Groups, []uint32{111, 222}) {
		t.Errorf("%+v", p)
	}
	s = newStage(t)
	s.start("euid", as(0, 0)).expect(t, "ready")
	if p := s.peer(s.accept()); p.UID != 1001 || p.GID != 1001 {
		t.Errorf("not the effective ids: %+v", p)
	}
}

func TestPeerThatIsDeadIsRefused(t *testing.T) {
	s := newStage(t)
	child := s.start("vanish", nil)
	child.end() // reaped
	fd := s.accept()
	if p, err := PeerOf(fd); !errors.Is(err, ErrPeerGone) || p.Known() {
		t.Errorf("reaped: %+v %v", p, err)
	}
	child = s.start("vanish", nil)
	fd = s.accept()
	waitForDeath(t, child.Process.Pid) // a zombie: nobody has waited for it
	if p, err := PeerOf(fd); !errors.Is(err, ErrPeerGone) || p.Known() {
		t.Errorf("zombie: %+v %v", p, err)
	}
	before := openDescriptors(t)
	for range 20 {
		PeerOf(fd)
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// waitForDeath returns when the process has ended, and leaves it a zombie.
func waitForDeath(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
}

func TestPidFDTellsTheDeathOfThePeer(t *testing.T) {
	s := newStage(t)
	child := s.start("connect", nil)
	child.expect(t, "ready")
	p := s.peer(s.accept())
	if p.PidFD < 0 {
		t.Skip("SO_PEERPIDFD is unknown here")
	}
	poll := []unix.PollFd{{Fd: int32(p.PidFD), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); n != 0 || err != nil {
		t.Errorf("dead while it lives: %d %v", n, err)
	}
	child.end()
	if n, err := unix.Poll(poll, 10_000); n != 1 || err != nil {
		t.Errorf("alive after its death: %d %v", n, err)
	}
}

// A socket keeps showing the process that connected, though another one writes to
// it. When the first has ended before it was asked for, there is nobody to ask for.
func TestInheritedSocketGivesNoIdentity(t *testing.T) {
	needRoot(t, "processes of other users")
	s := newStage(t)
	child := s.start("hand over", nil)
	child.expect(t, "ready")
	waitForDeath(t, child.Process.Pid)
	fd := s.accept()
	var b [1]byte
	if n, err := unix.Read(fd, b[:]); n != 1 || err != nil {
		t.Fatalf("the heir writes: %d %v", n, err)
	}
	if p, err := PeerOf(fd); !errors.Is(err, ErrPeerGone) || p.Known() {
		t.Errorf("%+v %v", p, err)
	}
}

func TestPeerOfAnotherNamespaceIsRefused(t *testing.T) {
	needRoot(t, "new namespaces")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1000}}
	for name, attr := range map[string]*syscall.SysProcAttr{
		"user":         {Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids},
		"pid":          {Cloneflags: syscall.CLONE_NEWPID},
		"user and pid": {Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID, UidMappings: ids, GidMappings: ids},
	} {
		s := newStage(t)
		chmod(t, s.dir, 0o777) // the server binds its socket there
		path := filepath.Join(s.dir, "inner")
		server, err := s.try("serve", attr, path)
		if err != nil {
			t.Logf("%s: cannot be had here: %v", name, err)
			continue
		}
		server.expect(t, "ready")
		client, err := connect(path)
		if err != nil {
			t.Fatal(err)
		}
		line, _ := server.out.ReadString('\n')
		if !strings.HasPrefix(line, "error:") || !strings.Contains(line, ErrPeerUnknown.Error()) {
			t.Errorf("%s: the server says %q", name, line)
		}
		unix.Close(client)
	}
}

// A user who is root in a namespace of his own is himself to everybody else.
func TestRootOfAUserNamespaceIsItsOwner(t *testing.T) {
	needRoot(t, "new namespaces")
	s := newStage(t)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}}
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids,
		Credential: &syscall.Credential{NoSetGroups: true}}
	child, err := s.try("connect", attr)
	if err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	child.expect(t, "ready")
	if p := s.peer(s.accept()); p.UID != 1000 || p.GID != 1000 {
		t.Errorf("%+v", p)
	}
}
