package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/broker"
	"locker/flock"
	"locker/keeper"
)

// office is all that a broker is given by its process.
type office struct {
	options  options
	settings settings
	policy   *authz.Policy
	reload   func() (*authz.Policy, error) // nil: there is no policy file
	logger   hclog.Logger
	manager  manager
	listener *listener
	drain    context.Context  // done: let go of everything in order, and end
	handOver <-chan struct{}  // closed: another broker follows; end, and leave everything to the keeper
	hangups  <-chan os.Signal // take the policy file anew
	opened   bool             // clients have been let in
}

// serveClients is 'lockerd broker', the process that serves clients.
func serveClients(o options, stderr io.Writer) error {
	at := office{options: o, logger: newLogger(o, stderr), manager: newManager()}
	err := serveAt(&at)
	if err != nil && !at.opened && at.manager.address != "" {
		// The service manager will start it again at once, as it should after a crash, but in vain.
		select {
		case <-at.handOver:
		case <-at.drain.Done():
		case <-time.After(startPause):
		}
	}
	return err
}

// startPause is how long a broker that cannot start keeps its service manager from trying again.
const startPause = time.Second

func serveAt(at *office) error {
	unix.Umask(0o077) // whatever is created is for us alone until it is given away on purpose. umask(2)
	o := at.options
	if at.manager.supervised() {
		callMyself("lockerd")
	}
	// Before anything that a signal could interrupt half-way: a SIGHUP while starting must not kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	at.hangups = hup
	// Nobody stops listening for these: a second one while we end must not kill.
	at.drain, _ = signal.NotifyContext(context.Background(), unix.SIGINT)
	over, _ := signal.NotifyContext(context.Background(), unix.SIGTERM)
	at.handOver = over.Done()

	var err error
	if at.policy, at.reload, err = loadPolicy(o); err != nil {
		return err
	}
	if at.settings, err = o.settle(at.policy); err != nil {
		return err
	}
	if _, _, err := flock.NewOpener(at.policy.Allow); err != nil { // before the log is opened, which would grow by each try
		return err
	}
	// First of all the right to the socket's name: a second lockerd is told so, and leaves nothing behind.
	if at.listener, err = listen(at.settings, at.manager.supervised()); err != nil {
		return err
	}
	defer at.listener.release()
	if err := makeStateDir(at.settings.stateDir); err != nil {
		return err
	}
	return runBroker(at)
}

// open makes the socket appear under its name, and tells whoever started us.
func (at *office) open() error {
	if err := at.listener.publish(); err != nil {
		return err
	}
	if at.manager.supervised() && at.listener.ours() {
		// The policy may be another than when the supervisor made the socket.
		if err := at.settings.dress(at.listener.name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			at.logger.Warn("the socket's owner and mode", "error", err)
		}
	}
	socket := at.listener.name()
	if problem := at.listener.closed(); problem != "" {
		at.logger.Warn("the service manager's socket", "problem", problem)
	}
	at.logger.Info("serving", "socket", socket, "policy", at.policy.File, "allow", strings.Join(at.policy.Allow, " "), "state_dir", at.settings.stateDir, "version", version)
	at.opened = true
	at.manager.say("READY=1", "STATUS=serving "+socket)
	return nil
}

// runBroker opens the log, makes the broker and serves until it is told to end.
func runBroker(at *office) error {
	log, err := audit.Open(audit.Config{
		Dir: at.settings.auditDir, SegmentSize: at.policy.Audit.SegmentSize, GID: groupAdm(),
		AcceptBroken: at.options.acceptBrokenLog, Warn: at.logger.Warn,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(at.drain)
	defer stop()
	go func() { // ends with the process: there is no hand-over yet
		<-at.handOver
		stop()
	}()
	if at.options.keeper != noKeeper && !keeper.Seeded("no-keeper") {
		stay, err := stayInContact(ctx, at.options.keeper)
		if err != nil {
			return errors.Join(err, log.Close())
		}
		defer stay()
	}
	b, err := broker.New(ctx, broker.Config{Policy: at.policy, Log: log, Logger: at.logger, Version: version, Reload: at.reload})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	// The socket appears under its name only now: the locks of the last run are held again before anybody is served.
	if err := at.open(); err != nil {
		return errors.Join(err, b.Close(), log.Close())
	}
	reloads := make(chan struct{})
	go func() {
		defer close(reloads)
		for {
			select {
			case <-ctx.Done():
				return
			case <-at.hangups:
				at.manager.say(reloading())
				b.Reload(ctx) // says in the log what came of it
				at.manager.say("READY=1")
			}
		}
	}()
	err = b.Serve(ctx, at.listener.UnixListener)
	at.manager.say("STOPPING=1")
	stop()
	<-reloads
	err = errors.Join(err, log.Close())
	at.logger.Info("stopped")
	if at.drain.Err() != nil {
		at.manager.say(saysDrained)
	}
	return err
}

// stayInContact keeps a connection to the keeper, over which nothing is sent yet.
func stayInContact(ctx context.Context, path string) (stay func(), err error) {
	ctx, stop := context.WithCancel(ctx)
	c, err := dialKeeper(ctx, path)
	if err == nil {
		err = c.Sync(ctx)
	}
	if err != nil {
		stop()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				c.Close()
				return
			case <-c.Gone():
				c.Close()
				if c, err = dialKeeper(ctx, path); err != nil {
					return
				}
				c.Sync(ctx)
			}
		}
	}()
	return func() { stop(); <-done }, nil
}
