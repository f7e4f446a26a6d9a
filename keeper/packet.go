package keeper

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const maxRights = 2 // descriptors in a message

// receiver takes messages with their descriptors from a socket; it belongs to one goroutine.
type receiver struct {
	raw    syscall.RawConn
	marked bool // the socket has SO_PASSCRED

	packet []byte // what came last, a part of buf
	rights []int  // its descriptors, which are the caller's now
	cut    bool   // it had more of either than a message can have, or than we had room for

	buf [maxMessage + 1]byte // one more: longer is seen as such
	// The credentials of SO_PASSCRED and two descriptors, and no more: what does not fit the kernel closes. unix(7).
	oob [64]byte
	fds [maxRights]int
	iov unix.Iovec
	msg unix.Msghdr
	n   int
	err unix.Errno
	try func(fd uintptr) bool // a field, so that no closure is made for each message
}

// newReceiver prepares a socket. With marks, every message brings its sender's credentials, which nobody looks at: they
// tell an empty message from the end of the connection, as nothing else does on SOCK_SEQPACKET (recv(2)).
func newReceiver(conn syscall.Conn, marked bool) (*receiver, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &receiver{raw: raw, marked: marked}
	oob := r.oob[:unix.CmsgSpace(4*maxRights)]
	if marked {
		var sockErr error
		err = raw.Control(func(fd uintptr) { sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		if err = errors.Join(err, sockErr); err != nil {
			return nil, err
		}
		oob = r.oob[:len(oob)+unix.CmsgSpace(unix.SizeofUcred)]
	}
	r.try = func(fd uintptr) bool {
		for {
			// By hand: unix.Recvmsg allocates room for an address that nobody asked for, and that garbage would double what the
			// keeper takes for each entry (BenchmarkMemory).
			r.iov.Base = &r.buf[0]
			r.iov.SetLen(len(r.buf))
			r.msg = unix.Msghdr{Iov: &r.iov, Control: &oob[0]}
			r.msg.SetIovlen(1)
			r.msg.SetControllen(len(oob))
			n, _, err := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&r.msg)), unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				r.n, r.err = int(n), err
				return err != unix.EAGAIN
			}
		}
	}
	return r, nil
}

// receive waits for the next message. io.EOF: there will be none.
func (r *receiver) receive() error {
	r.packet, r.rights, r.cut = nil, nil, false
	// A peer that died with answers unread makes the next call fail with ECONNRESET, once, before what it had sent is
	// given out: those messages carry locks. A few more than once are for kernels to come.
	for resets := 0; ; resets++ {
		if err := r.raw.Read(r.try); err != nil {
			return err
		}
		if r.err != unix.ECONNRESET || resets == 3 {
			break
		}
	}
	if r.err != 0 {
		return r.err
	}
	if r.n == 0 && r.msg.Controllen == 0 {
		return io.EOF
	}
	r.packet = r.buf[:r.n]
	r.rights = r.takeRights()
	r.cut = r.msg.Flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0
	return nil
}

// takeRights finds the descriptors in what the kernel wrote beside the message.
func (r *receiver) takeRights() []int {
	found := r.fds[:0]
	for rest := r.oob[:r.msg.Controllen]; len(rest) >= unix.SizeofCmsghdr; {
		head, data, more, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			break
		}
		if head.Level == unix.SOL_SOCKET && head.Type == unix.SCM_RIGHTS {
			for ; len(data) >= 4; data = data[4:] {
				found = append(found, int(int32(binary.NativeEndian.Uint32(data))))
			}
		}
		rest = more
	}
	return found
}

// sender puts messages into a socket, and never waits for room in it. It is not safe for concurrent use.
type sender struct {
	raw  syscall.RawConn
	some [maxRights + 1][]byte // control messages for so many descriptors

	packet []byte
	oob    []byte
	err    error
	try    func(fd uintptr)
}

func newSender(conn syscall.Conn) (*sender, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &sender{raw: raw, packet: make([]byte, 0, maxMessage)}
	for n := 1; n <= maxRights; n++ {
		s.some[n] = unix.UnixRights(make([]int, n)...)
	}
	s.try = func(fd uintptr) {
		for {
			// MSG_NOSIGNAL: for programs that ask for SIGPIPE. send(2).
			_, s.err = unix.SendmsgN(int(fd), s.packet, s.oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if s.err != unix.EINTR {
				return
			}
		}
	}
	return s, nil
}

// send is one sendmsg(2). Descriptors of -1 are none; m.set is made to say so.
func (s *sender) send(m *message, lock, holder int) error {
	n := 0
	for i, fd := range [maxRights]int{lock, holder} {
		if fd >= 0 {
			m.set |= withLock << i
			n++
		}
	}
	oob := s.some[n]
	at := unix.CmsgLen(0)
	for _, fd := range [maxRights]int{lock, holder} {
		if fd >= 0 {
			binary.NativeEndian.PutUint32(oob[at:], uint32(fd))
			at += 4
		}
	}
	s.packet, s.oob = appendMessage(s.packet[:0], m), oob
	// Control, not Write: Write waits for whoever waits in another Write, and Put must not.
	if err := s.raw.Control(s.try); err != nil {
		return err
	}
	return s.err
}

// peerOf is who called connect(2) or listen(2) at the other end. SO_PEERCRED, unix(7).
func peerOf(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, sockErr); err != nil {
		return nil, err
	}
	return cred, nil
}
