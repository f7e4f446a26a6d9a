package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"locker/authz"
	"locker/guard"
)

// guardBundles is 'lockerd guard': it refuses opens below held bundles to file servers. It knows neither policy nor clients nor the log: the
// broker tells it whom, and sends it open directories.
func guardBundles(o options, m manager, stderr io.Writer) error {
	unix.Umask(0o077)
	logger := newLogger(o, stderr)
	signal.Ignore(unix.SIGHUP) // there is nothing to take anew
	ends := []os.Signal{unix.SIGTERM, unix.SIGINT}
	if m.supervised() {
		callMyself("lockerd")
		// A terminal's, which the broker has too: what it holds is guarded until it has let go of it. Then our parent ends us.
		signal.Ignore(unix.SIGINT)
		ends = ends[:1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	server := guard.Server{Warn: logger.Warn}
	place, err := o.guardsPlace(&server)
	if err != nil {
		return m.cannotStart(ctx, stderr, err)
	}
	defer place.release()
	if err := guard.Available(); err != nil {
		logger.Warn("nobody can be kept from held bundles here: locks go on without", "error", err)
	}
	logger.Info("guarding", "socket", o.guard, "version", version)
	m.say("READY=1\nSTATUS=guarding at " + o.guard)
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	work.Go(func() {
		if m.outlived(ctx) {
			stop()
		}
	})
	err = server.Serve(ctx, place.UnixListener)
	m.say("STOPPING=1")
	return err
}

// guardsPlace finds out whom a guard serves, and takes its place.
func (o options) guardsPlace(server *guard.Server) (*takenPlace, error) {
	if o.brokerUser != "" {
		var err error
		if server.BrokerUID, err = uidOf(o.brokerUser); err != nil {
			return nil, err
		}
	}
	// Its parent is the administrator's to make: only where it is safe can only he know.
	if err := makeOwnDir(filepath.Dir(o.guard)); err != nil {
		return nil, fmt.Errorf("make the directory of the guard's socket: %w", err)
	}
	return takePlace("guard", o.guard, o.guard+ownerSuffix)
}

// uidOf finds a user by name or number.
func uidOf(user string) (uint32, error) {
	uid, err := authz.SystemUsers().UID(user)
	if err == nil {
		return uid, nil
	}
	if n, nerr := strconv.ParseUint(user, 10, 32); nerr == nil {
		return uint32(n), nil
	}
	return 0, fmt.Errorf("--broker-user: %w", err)
}

// dialGuard connects to the guard, once.
//
// Privileged: opens a directory that the administrator named, for the names in it alone: an address of a socket has room for
// 107 bytes. unix(7)
func dialGuard(ctx context.Context, path string) (*guard.Conn, error) {
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to the guard at %q: %w", path, err)
	}
	defer dir.Close()
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if len(path) < len(short) {
		short = path
	}
	return guard.Dial(ctx, short)
}
