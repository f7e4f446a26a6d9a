package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	newSuffix  = ".new"  // of the name under which the socket is bound before it gets its real one
	lockSuffix = ".lock" // of the file whose lock says who may do that
)

// Listen makes the keeper's socket, mode 0600, in a directory that is made, mode 0700, if it is missing. A socket on which
// nobody listens any more is replaced; one on which somebody does, and anything that is no socket, is an error. The
// path may have any length. The socket stays when the listener is closed.
//
// Privileged: creates in a directory that must be root's or our own and not writable by others, so an attacker controls neither
// names nor what they lead to.
func Listen(path string) (*net.UnixListener, error) {
	dir, name := filepath.Dir(path), filepath.Base(path)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	d, st, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer unix.Close(d)
	if st.Mode&0o022 != 0 {
		return nil, fmt.Errorf("the socket's directory %q is writable by others: anybody could put another socket there", dir)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("the socket's directory %q belongs to uid %d, who could replace the socket", dir, st.Uid)
	}
	// Whoever has this lock may replace the socket. It is given back when the new one is in place: then it is known by being
	// connected to.
	lock, err := unix.Openat(d, name+lockSuffix, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path+lockSuffix, err)
	}
	defer unix.Close(lock)
	if err := unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %q: another process does so too: %w", path+lockSuffix, err)
	}
	if err := checkFree(d, name); err != nil {
		return nil, fmt.Errorf("listen on %q: %w", path, err)
	}
	l, err := bind(d, name)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", path, err)
	}
	return l, nil
}

// openDir opens a directory for the names in it alone.
//
// Privileged: whoever can rename in the way to it chooses which directory it is; who may own it is the caller's to check.
func openDir(dir string) (int, *unix.Stat_t, error) {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("open the socket's directory %q: %w", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(d, &st); err != nil {
		unix.Close(d)
		return -1, nil, fmt.Errorf("the socket's directory %q: %w", dir, err)
	}
	return d, &st, nil
}

// within names a file of an open directory in few bytes, as the address of a socket has room for 107 only. unix(7), proc(5).
func within(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

// checkFree reports why the name cannot be had.
//
// Privileged: looks at, and connects to, what has the name in a directory that others cannot write.
func checkFree(dir int, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("there is something else than a socket")
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: within(dir, name), Net: "unixpacket"})
	if err == nil {
		defer conn.Close()
		if peer, err := peerOf(conn); err == nil {
			return fmt.Errorf("another process serves it (pid %d)", peer.Pid)
		}
		return errors.New("another process serves it")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		// EAGAIN: somebody listens, and the queue of connections is full. connect(2)
		return fmt.Errorf("it is in use: %w", err)
	}
	return nil
}

// bind makes the socket under its first name and renames it: nobody can connect before it is as it shall be, and there is
// no moment without a socket.
//
// Privileged: creates, removes and renames in a directory that others cannot write.
func bind(dir int, name string) (*net.UnixListener, error) {
	first := name + newSuffix
	if err := unix.Unlinkat(dir, first, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("remove what an earlier start left: %w", err)
	}
	var modeErr error
	// bind(2) gives the file the mode of the socket, less the umask: it never has another. unix_bind_bsd() in net/unix/af_unix.c.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		err := raw.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, modeErr)
	}}
	any, err := config.Listen(context.Background(), "unixpacket", within(dir, first))
	if err != nil {
		return nil, err
	}
	l := any.(*net.UnixListener)
	l.SetUnlinkOnClose(false) // by a name in /proc that would lead elsewhere by then
	if err := unix.Renameat(dir, first, dir, name); err != nil {
		l.Close()
		unix.Unlinkat(dir, first, 0)
		return nil, err
	}
	return l, nil
}

// dial connects, and checks who listens: root, our own uid, or the owner of the socket's directory where nobody else can have
// put that directory or the socket there.
//
// Privileged: whoever can rename in the way to the socket chooses what is connected to, which is why the listener is asked for.
func dial(ctx context.Context, path string) (*net.UnixConn, int32, error) {
	d, st, err := openDir(filepath.Dir(path))
	if err != nil {
		return nil, 0, err
	}
	defer unix.Close(d)
	var dialer net.Dialer
	any, err := dialer.DialContext(ctx, "unixpacket", within(d, filepath.Base(path)))
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without the name in /proc
		}
		return nil, 0, fmt.Errorf("connect to the keeper at %q: %w", path, err)
	}
	conn := any.(*net.UnixConn)
	peer, err := peerOf(conn)
	if err != nil {
		conn.Close()
		return nil, 0, fmt.Errorf("ask the kernel who listens at %q: %w", path, err)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() && (peer.Uid != st.Uid || !onlyOwnerWrites(d)) {
		conn.Close()
		return nil, 0, fmt.Errorf("the program that listens at %q belongs to uid %d, who is not to be trusted with locks", path, peer.Uid)
	}
	return conn, peer.Pid, nil
}

// onlyOwnerWrites reports whether nobody but its owner can write to the directory, and nobody but root or we to those it lies
// in.
//
// Privileged: follows ".." from an open directory, which is up whatever others rename.
func onlyOwnerWrites(dir int) bool {
	var st, above unix.Stat_t
	if unix.Fstat(dir, &st) != nil || st.Mode&0o022 != 0 {
		return false
	}
	at, err := unix.Openat(dir, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for err == nil {
		var up int
		up, err = unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(at)
		if err != nil {
			return false
		}
		at = up
		if unix.Fstat(at, &above) != nil || above.Mode&0o022 != 0 || above.Uid != 0 && int(above.Uid) != os.Geteuid() {
			break
		}
		if above.Dev == st.Dev && above.Ino == st.Ino { // the root is above itself
			unix.Close(at)
			return true
		}
		st = above
	}
	if err == nil {
		unix.Close(at)
	}
	return false
}
