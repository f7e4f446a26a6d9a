package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/broker"
	"locker/flock"
	"locker/guard"
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
func serveClients(o options, m manager, stderr io.Writer) error {
	at := office{options: o, logger: newLogger(o, stderr), manager: m}
	err := serveAt(&at)
	if err != nil && !at.opened {
		ctx, done := at.whileWanted(at.drain)
		defer done()
		return m.cannotStart(ctx, stderr, err)
	}
	return err
}

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

	var load func() (*authz.Policy, error)
	var err error
	if at.policy, load, err = loadPolicy(o); err != nil {
		return err
	}
	if load != nil {
		at.reload = func() (*authz.Policy, error) { return at.loadAgain(load) }
	}
	at.doubt(at.policy)
	at.wantGuard(at.policy)
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

// runBroker takes over what the keeper has, opens the log, makes the broker and serves until it is told to end.
func runBroker(at *office) error {
	ctx, stop := context.WithCancel(at.drain)
	defer stop()
	config := broker.Config{Policy: at.policy, Logger: at.logger, Version: version, Reload: at.reload, BootID: bootID(), NeedsRestart: at.needsRestart}
	if at.options.guard != noGuard {
		config.Guard = func(ctx context.Context) (*guard.Conn, error) { return dialGuard(ctx, at.options.guard) }
	}
	// Before the log is opened: the numbers of the holds there are a floor for its own, should it have been lost.
	if at.options.keeper != noKeeper && !keeper.Seeded("no-keeper") {
		starting, started := at.whileWanted(ctx)
		err := at.takeKeeper(starting, &config)
		started()
		if err != nil {
			return err
		}
	}
	var err error
	config.Log, err = audit.Open(audit.Config{
		Dir: at.settings.auditDir, SegmentSize: at.policy.Audit.SegmentSize, GID: groupAdm(), BootID: config.BootID, Floor: config.Past.Highest,
		AcceptBroken: at.options.acceptBrokenLog, Warn: at.logger.Warn,
	})
	if err != nil {
		return err
	}
	again := make(chan struct{}, 1)
	if config.Keeper != nil {
		config.Restart = func() {
			select {
			case again <- struct{}{}:
			default: // once is enough
			}
		}
	}
	keeper.Step("start.log")
	b, err := broker.New(ctx, config) // not cut short by a hand-over: what it claims again, the keeper must have first
	if err != nil {
		return errors.Join(err, config.Log.Close())
	}
	// The socket appears under its name only now: the locks of the last run are held again before anybody is served.
	if err := at.open(); err != nil {
		return errors.Join(err, b.Close(), config.Log.Close())
	}
	handed := make(chan bool, 1)
	go func() { handed <- at.mind(ctx, again, b); stop() }()
	err = b.Serve(ctx, at.listener.UnixListener)
	at.manager.say("STOPPING=1")
	stop()
	handedOver := <-handed
	err = errors.Join(err, config.Log.Close())
	at.logger.Info("stopped", "handed_over", handedOver)
	if !handedOver {
		at.manager.say(saysDrained)
	}
	return err
}

// whileWanted gives a context that also ends when another broker is to follow, or nobody is there any more who would start one:
// a broker that waits for its keeper has nothing yet, and must not be in the way of the next.
func (at *office) whileWanted(ctx context.Context) (context.Context, func()) {
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		select {
		case <-at.handOver:
			stop()
		case <-ctx.Done():
		}
	})
	work.Go(func() {
		if at.manager.outlived(ctx) {
			stop()
		}
	})
	return ctx, func() { stop(); work.Wait() }
}

// takeKeeper connects to the keeper and lists what it has, as often as it takes: it may die meanwhile, and the next one has less.
func (at *office) takeKeeper(ctx context.Context, c *broker.Config) error {
	c.Redial = func(ctx context.Context) (*keeper.Conn, error) { return dialKeeper(ctx, at.options.keeper) }
	for {
		conn, err := c.Redial(ctx)
		if err != nil {
			return err
		}
		if c.Listed, c.Past, err = conn.List(ctx); err == nil {
			c.Keeper = conn
			return nil
		}
		conn.Close()
		at.logger.Warn("the keeper does not say what it has; asking again", "error", err)
	}
}

// bootID is what the kernel calls this run of the machine; empty if it does not say, and then no log is of this run.
//
// Privileged: reads what proc says of the kernel.
func bootID() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
