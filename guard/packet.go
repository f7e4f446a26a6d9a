package guard

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiver takes messages with their descriptors from a socket; it belongs to one goroutine.
type receiver struct {
	raw    syscall.RawConn
	packet []byte // what came last, a part of buf
	rights []int  // its descriptors, which are the caller's now
	cut    bool   // it had more of either than a message can have, or than we had room for

	buf [maxMessage + 1]byte // one more: longer is seen as such
	oob []byte               // for MaxDirs descriptors; what does not fit the kernel closes. unix(7)
}

func newReceiver(conn syscall.Conn) (*receiver, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &receiver{raw: raw, oob: make([]byte, unix.CmsgSpace(4*MaxDirs))}, nil
}

// receive waits for the next message. io.EOF: there will be none.
//
// An empty datagram looks like the end, recv(2), and is taken for it: no message is empty.
func (r *receiver) receive() error {
	r.packet, r.rights, r.cut = nil, nil, false
	var n, oobn, flags int
	var recvErr error
	err := r.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, flags, _, recvErr = unix.Recvmsg(int(fd), r.buf[:], r.oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if recvErr != unix.EINTR {
				return recvErr != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, recvErr); err != nil {
		return err
	}
	r.rights = rightsIn(r.oob[:oobn])
	if n == 0 {
		closeAll(r.rights)
		return io.EOF
	}
	r.packet = r.buf[:n]
	r.cut = flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0
	return nil
}

// rightsIn finds the descriptors in what the kernel wrote beside a message.
func rightsIn(oob []byte) (fds []int) {
	for len(oob) >= unix.SizeofCmsghdr {
		head, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if head.Level == unix.SOL_SOCKET && head.Type == unix.SCM_RIGHTS {
			for ; len(data) >= 4; data = data[4:] {
				fds = append(fds, int(int32(binary.NativeEndian.Uint32(data))))
			}
		}
		oob = rest
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// send is one sendmsg(2), which never waits for room.
func send(raw syscall.RawConn, m *message, fds ...int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	packet := appendMessage(nil, m)
	var sendErr error
	err := raw.Control(func(fd uintptr) {
		for {
			// MSG_NOSIGNAL: for programs that ask for SIGPIPE. send(2).
			_, sendErr = unix.SendmsgN(int(fd), packet, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if sendErr != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, sendErr)
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
