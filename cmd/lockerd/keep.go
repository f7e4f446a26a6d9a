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
func keepAlone(o options, stderr io.Writer) error {
	unix.Umask(0o077)
	logger := newLogger(o, stderr)
	signal.Ignore(unix.SIGHUP) // there is nothing to take anew
	ctx, _ := signal.NotifyContext(context.Background(), unix.SIGINT)
	leave, _ := signal.NotifyContext(context.Background(), unix.SIGTERM)
	// Its parent is the administrator's to make: only where it is safe can only he know.
	if err := makeKeeperDir(filepath.Dir(o.keeper)); err != nil {
		return fmt.Errorf("make the directory of the keeper's socket: %w", err)
	}
	place, err := takeKeeper(o.keeper)
	if err != nil {
		return err
	}
	defer place.release()
	logger.Info("keeping", "socket", o.keeper, "version", version)
	m := newManager()
	m.say("READY=1\nSTATUS=keeping " + o.keeper)
	server := keeper.Server{Warn: logger.Warn}
	context.AfterFunc(leave, func() { server.Leave(leavePatience) })
	err = server.Serve(ctx, place.UnixListener)
	m.say("STOPPING=1")
	return err
}

// makeKeeperDir makes the directory of the keeper's socket, ours alone, if it is not there.
//
// Privileged: creates one directory that the administrator named.
func makeKeeperDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// ownerSuffix is of the file whose lock says who is the keeper here, as long as it runs.
const ownerSuffix = ".owner"

// keeperPlace is the keeper's listening socket and the right to be the keeper there.
type keeperPlace struct {
	*net.UnixListener
	path string
	lock int // descriptor
}

// takeKeeper takes the right and makes the socket.
func takeKeeper(path string) (*keeperPlace, error) {
	fd, _, err := takeLock(path + ownerSuffix)
	if held := heldBy(0); errors.As(err, &held) {
		return nil, fmt.Errorf("%q is %w; stop it first", filepath.Dir(path), err)
	} else if err != nil {
		return nil, fmt.Errorf("take the keeper's place: %w", err)
	}
	l, err := keeper.Listen(path)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen as the keeper: %w", err)
	}
	sign(fd)
	return &keeperPlace{UnixListener: l, path: path, lock: fd}, nil
}

// release takes the socket's name away and gives up the right, in this order. A broker that is left finds the next keeper there.
//
// Privileged: removes our own socket.
func (k *keeperPlace) release() {
	k.UnixListener.Close()
	os.Remove(k.path)
	unix.Close(k.lock)
}
