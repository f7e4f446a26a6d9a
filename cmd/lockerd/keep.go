package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"locker/keeper"
)

// leavePatience is how long a keeper that is told to end waits for a broker to have what it has: as long as a start of one may take
// while the machine is busy.
const leavePatience = 8 * time.Second

// keepAlone is 'lockerd keeper': it holds copies of descriptors for a broker, and knows neither policy nor clients nor the log.
func keepAlone(o options, m manager, stderr io.Writer) error {
	unix.Umask(0o077)
	logger := newLogger(o, stderr)
	signal.Ignore(unix.SIGHUP) // there is nothing to take anew
	ctx, _ := signal.NotifyContext(context.Background(), unix.SIGINT)
	leave, _ := signal.NotifyContext(context.Background(), unix.SIGTERM)
	place, err := keepApart(o.keeper)
	if err != nil {
		wanted, stop := context.WithCancel(ctx)
		defer stop()
		context.AfterFunc(leave, stop)
		return m.cannotStart(wanted, stderr, err)
	}
	defer place.release()
	logger.Info("keeping", "socket", o.keeper, "version", version)
	m.say("READY=1\nSTATUS=keeping " + o.keeper)
	server := keeper.Server{Warn: logger.Warn}
	context.AfterFunc(leave, func() { server.Leave(leavePatience) })
	err = server.Serve(ctx, place.UnixListener)
	m.say("STOPPING=1")
	return err
}

// keepApart takes the place of a keeper that is a process of its own.
func keepApart(path string) (*takenPlace, error) {
	// Its parent is the administrator's to make: only where it is safe can only he know.
	if err := makeOwnDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make the directory of the keeper's socket: %w", err)
	}
	return takePlace("keeper", path, path+ownerSuffix)
}

// makeOwnDir makes the directory of the keeper's or the guard's socket, ours alone, if it is not there.
//
// Privileged: creates one directory that the administrator named.
func makeOwnDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// keeperSuffix is of the directory beside the socket for clients in which lockerd in the foreground keeps.
const keeperSuffix = ".keeper"

// keepBeside takes the keeper's place for lockerd in the foreground.
func keepBeside(s settings, passed bool) (*takenPlace, error) {
	path := s.keeperSocket(passed)
	if dir := filepath.Dir(path); !passed {
		if err := errors.Join(makeOwnDir(dir), checkOurs(dir)); err != nil {
			return nil, fmt.Errorf("make the directory of the keeper's socket: %w", err)
		}
	}
	return takePlace("keeper", path, filepath.Join(s.stateDir, "keeper"+ownerSuffix)) // one for each state, wherever the sockets are
}

// checkOurs refuses a directory that another has made, or that is a link.
//
// Privileged: looks at a directory; beside a socket in a directory like /tmp another may have put one there before us, and cannot once
// it is ours.
func checkOurs(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%q is there and is not a directory that lockerd has made as uid %d", dir, os.Geteuid())
	}
	return nil
}

// ownerSuffix is of the file whose lock says who is the keeper, or the guard, as long as it runs.
const ownerSuffix = ".owner"

// takenPlace is the listening socket of a keeper or a guard and the right to be it there.
type takenPlace struct {
	*net.UnixListener
	path string
	lock int // descriptor; -1: there can be none
}

// takePlace takes the right to be the keeper or the guard, by a lock on the file owner, and makes the socket.
func takePlace(as, path, owner string) (*takenPlace, error) {
	fd, _, err := takeLock(owner)
	if held := heldBy(0); errors.As(err, &held) {
		return nil, fmt.Errorf("%q is %w; stop it first", filepath.Dir(owner), err)
	} else if errors.Is(err, unix.EROFS) {
		fd = -1 // no keeper has been here while it could be written, and the log has a lock of its own
	} else if err != nil {
		return nil, fmt.Errorf("take the %s's place: %w", as, err)
	}
	l, err := keeper.Listen(path)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen as the %s: %w", as, err)
	}
	sign(fd)
	return &takenPlace{UnixListener: l, path: path, lock: fd}, nil
}

// release takes the socket's name away and gives up the right, in this order. A broker that is left finds the next keeper there.
//
// Privileged: removes our own socket.
func (k *takenPlace) release() {
	k.UnixListener.Close()
	os.Remove(k.path)
	unix.Close(k.lock)
}
