package authz

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Why PeerOf refuses a connection.
var (
	ErrPeerUnknown = errors.New("peer has no id of its own here") // pid 0 or an overflow id: another namespace
	ErrPeerGone    = errors.New("peer has ended")
	ErrNotAccepted = errors.New("not a connection from accept(2)")
)

// PeerOf asks the kernel who connected. fd is a unix stream socket from accept(2)
// and stays the caller's; the caller closes Peer.PidFD, which is -1 only where the
// kernel cannot give one (before Linux 6.5). Any error means: close the connection.
//
// All values are as of connect(2), unix(7): what the process does later to its
// ids, or to whom it hands its socket, changes nothing. They are effective ids: a
// set-uid program that can be made to connect acts as its owner.
func PeerOf(fd int) (Peer, error) {
	if err := checkAccepted(fd); err != nil {
		return Peer{}, fmt.Errorf("peer: %w", err)
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, fmt.Errorf("peer: SO_PEERCRED: %w", err)
	}
	if cred.Pid <= 0 || overflow(cred.Uid) || overflow(cred.Gid) {
		return Peer{}, fmt.Errorf("peer: pid %d, uid %d, gid %d: %w", cred.Pid, cred.Uid, cred.Gid, ErrPeerUnknown)
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return Peer{}, fmt.Errorf("peer: SO_PEERGROUPS: %w", err)
	}
	pidfd, err := peerPidFD(fd)
	if err != nil {
		return Peer{}, fmt.Errorf("peer: SO_PEERPIDFD: %w", err)
	}
	return Peer{
		UID: cred.Uid, GID: cred.Gid, Groups: groups,
		PID: cred.Pid, PidFD: pidfd, known: true,
	}, nil
}

// checkAccepted refuses sockets that show somebody else than the process at the
// other end. A socketpair(2) shows its maker at both ends, whoever holds them now;
// it has no address, while an accepted socket has its listener's.
func checkAccepted(fd int) error {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	local, isUnix := address.(*unix.SockaddrUnix)
	if !isUnix || local.Name == "" || local.Name == "@" { // "@": x/sys shows an empty name so
		return ErrNotAccepted
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return err
	}
	if kind != unix.SOCK_STREAM || listens != 0 { // a listener shows itself as its peer
		return ErrNotAccepted
	}
	return nil
}

// maxGroups is NGROUPS_MAX. setgroups(2).
const maxGroups = 1 << 16

// peerGroups returns the supplementary groups, ascending.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 32) // nearly always enough
	for range 2 {
		size := uint32(len(groups) * 4) // bytes
		// Too short a buffer is ERANGE with the needed length in size. The list never
		// changes after connect(2), so the second try has the right length.
		// x/sys has no call for a socket option of any length.
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		if size%4 != 0 || size > maxGroups*4 {
			return nil, fmt.Errorf("length %d", size)
		}
		switch {
		case errno == 0 && int(size) <= len(groups)*4:
			groups = groups[:size/4]
			slices.Sort(groups)
			return groups, nil
		case errno != unix.ERANGE:
			return nil, errno
		}
		groups = make([]uint32, max(1, size/4))
	}
	return nil, unix.ERANGE
}

// peerPidFD returns a descriptor of the peer's process, which must still run: a
// hold would outlive an attached client that has already ended.
func peerPidFD(fd int) (int, error) {
	// The kernel opens it with O_CLOEXEC. For a peer that is dead and reaped it may
	// say EINVAL or ESRCH, depending on its version.
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch err {
	case nil:
	case unix.ENOPROTOOPT:
		// pidfd_open(2) by the number could name a process that only now got it. EOF
		// alone then tells the end of the client.
		return -1, nil
	case unix.EINVAL, unix.ESRCH:
		return -1, fmt.Errorf("%w: %w", ErrPeerGone, err)
	default:
		return -1, err
	}
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	for err == unix.EINTR {
		n, err = unix.Poll(poll, 0)
	}
	if err == nil && n != 0 { // readable: the process has ended. pidfd_open(2)
		err = ErrPeerGone
	}
	if err != nil {
		unix.Close(pidfd)
		return -1, err
	}
	return pidfd, nil
}
