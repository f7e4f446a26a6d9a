package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newSuffix is of the name under which the socket is bound before it gets its real one.
const newSuffix = ".new"

// lockSuffix is of the file whose lock says which lockerd owns the socket's name.
const lockSuffix = ".lock"

// listener is the listening socket and, unless a service manager passed it, the right to its name.
//
// The right is a flock on a file beside it, held as long as the process lives: whoever has it may replace a stale socket,
// and there is no moment at which two servers could both think that the name is theirs. The socket is bound under another
// name, given its owner and mode, and renamed into place: nobody can connect before it is as the policy wants it.
type listener struct {
	*net.UnixListener
	settings settings
	lock     int  // descriptor; -1: passed by a service manager or our supervisor
	bound    bool // under its name
	left     bool // a broker of a lockerd that was killed still listens under the name
}

// listen makes the socket; publish gives it its name.
//
// Privileged: creates in the socket's directory. Others cannot write there, or it is sticky as /tmp is: then they can put
// something under a name that is free, and not take away what is ours. sticky bit: inode(7).
func listen(s settings, supervised bool) (*listener, error) {
	passed, err := passedListener(supervised)
	if err != nil {
		return nil, err
	}
	if passed != nil {
		return &listener{UnixListener: passed, settings: s, lock: -1}, nil
	}
	if err := checkDir(filepath.Dir(s.socket)); err != nil {
		return nil, err
	}
	l := &listener{settings: s}
	if l.lock, l.left, err = takeName(s.socket); err != nil {
		return nil, err
	}
	if err := l.bind(); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// checkDir refuses a directory in which others could put a socket of theirs under our name.
//
// Privileged: looks at a directory that the administrator named.
func checkDir(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("the socket's directory %q: %w", dir, err)
	}
	if st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return fmt.Errorf("the socket's directory %q is writable by others: anybody could put a socket there that takes our place; chmod go-w it or choose another with --socket", dir)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the socket's directory %q belongs to uid %d, who could replace the socket; choose another with --socket", dir, st.Uid)
	}
	return nil
}

// takeName takes the lock on the socket's name. left: the lockerd that had it before has died, and its broker still listens.
//
// Privileged: creates a file that only we can open.
func takeName(socket string) (fd int, left bool, err error) {
	fd, before, err := takeLock(socket + lockSuffix)
	if held := heldBy(0); errors.As(err, &held) {
		return -1, false, fmt.Errorf("another lockerd serves %q%s; stop it first, or give --socket", socket, serverOf(socket))
	} else if err != nil {
		return -1, false, fmt.Errorf("lock %q, which says who owns the socket: %w; choose another place with --socket", socket+lockSuffix, err)
	}
	// A server that does not know this lock may be listening: the 2016 locker, or something else altogether. The broker of a
	// lockerd that had the name is known by who has called listen(2): unix(7), SO_PEERCRED.
	who := serverOf(socket)
	left = who != "" && before > 0 && who == processName(before)
	if who != "" && !left {
		unix.Close(fd)
		return -1, false, anotherProgram(socket, who)
	}
	if !left { // else it still says by whom that broker is known
		sign(fd)
	}
	return fd, left, nil
}

func anotherProgram(socket, who string) error {
	return fmt.Errorf("another program serves %q%s; stop it first, or give --socket", socket, who)
}

// serverOf names the process that listens on a socket as " (pid N)", "" if nobody does.
func serverOf(socket string) string {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if errors.Is(err, unix.EAGAIN) {
		return " (its queue of connections is full)" // somebody listens all the same. connect(2)
	}
	if err != nil {
		return ""
	}
	defer c.Close()
	pid := -1
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				pid = int(cred.Pid)
			}
		})
	}
	return processName(pid)
}

func processName(pid int) string {
	if pid < 0 {
		return " (pid unknown)"
	}
	return fmt.Sprintf(" (pid %d)", pid)
}

// bind makes the socket under its first name, with the owner and the mode that it shall have.
//
// Privileged: creates a socket where others can at most have put something before: see listen. bind(2) follows no link.
func (l *listener) bind() error {
	s := l.settings
	if st, err := os.Lstat(s.socket); err == nil && st.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%q is there and is not a socket; move it away, or give --socket", s.socket)
	}
	first := s.socket + newSuffix
	if err := os.Remove(first); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove what an earlier start left: %w", err)
	}
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: first, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on %q: %w", s.socket, err)
	}
	u.SetUnlinkOnClose(false) // release unlinks it, while it still has the right to the name
	l.UnixListener = u
	return s.dress(first)
}

// dress gives a socket of ours the owner and the mode that the policy wants.
//
// Privileged: chowns and chmods what has this name. Before the socket is there, and where the directory is one like /tmp, that is
// what an attacker likes: so it is opened without following a link, looked at, and changed through that descriptor alone.
func (s settings) dress(name string) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) // O_NONBLOCK is not needed: open(2), O_PATH
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	// One name: a second one of another socket of ours must not open that to others.
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || int(st.Uid) != os.Geteuid() || st.Nlink != 1 {
		return fmt.Errorf("%q is not the socket that we made, so its owner and mode stay as they are", name)
	}
	if s.group >= 0 {
		if err := unix.Fchownat(fd, "", -1, s.group, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("give %q to group %d: %w", name, s.group, err)
		}
	}
	// fchmod(2) refuses an O_PATH descriptor, and fchmodat2(2) is of Linux 6.6.
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), s.mode); err != nil {
		return fmt.Errorf("set the mode of %q: %w", name, err)
	}
	return nil
}

// publish gives the socket its name, in the place of a stale one. Once is enough.
//
// Privileged: renames what is ours, over what another may have put there: see listen. rename(2) follows no link.
func (l *listener) publish() error {
	if l.lock < 0 || l.bound {
		return nil
	}
	if err := os.Rename(l.settings.socket+newSuffix, l.settings.socket); err != nil {
		return fmt.Errorf("put the socket in its place: %w", err)
	}
	l.bound = true
	sign(l.lock)
	return nil
}

// ours reports whether lockerd has made the socket, and not a service manager.
func (l *listener) ours() bool {
	return l.lock >= 0 || l.Addr().String() == l.settings.socket+newSuffix // by our supervisor, before it had its name
}

// name is where clients find the socket. One of a service manager is where that has put it.
func (l *listener) name() string {
	if l.ours() {
		return l.settings.socketName
	}
	return l.Addr().String()
}

// closed says how a socket that the service manager made keeps people out whom the policy wants to let in; "" if it does not.
// Only the service manager can put that right.
//
// Privileged: looks at a socket that the service manager made.
func (l *listener) closed() string {
	var st unix.Stat_t
	if l.ours() || unix.Stat(l.name(), &st) != nil {
		return ""
	}
	s := l.settings
	mode := os.FileMode(st.Mode & 0o777)
	switch {
	case s.group >= 0 && int(st.Gid) != s.group:
		return fmt.Sprintf("its group is %d, and the policy's socket_group is %d: set SocketGroup= in lockerd.socket", st.Gid, s.group)
	case s.mode&^mode != 0:
		return fmt.Sprintf("its mode is %04o, and the policy's socket_mode is %04o: set SocketMode= in lockerd.socket", mode, s.mode)
	}
	return ""
}

// release takes the socket's name away and gives up the right to it, in this order.
//
// Privileged: removes our own socket.
func (l *listener) release() {
	if l.UnixListener != nil {
		l.UnixListener.Close()
	}
	if l.lock < 0 {
		return
	}
	if l.bound {
		os.Remove(l.settings.socket)
	} else if l.UnixListener != nil {
		os.Remove(l.settings.socket + newSuffix)
	}
	unix.Close(l.lock)
}
