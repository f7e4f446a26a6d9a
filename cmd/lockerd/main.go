// Lockerd holds kernel file locks for users whom the policy allows. See package broker for what it does and README.md for
// how to run it.
//
// This directory owns the daemon's flags, its socket, its signals and the order in which it starts and stops. All that
// touches a user's path is in package flock.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/broker"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "dev"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the exit. 0: stopped as asked; 1: could not start, or failed; 2: usage.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, os.Getenv)
	switch {
	case errors.Is(err, errHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "lockerd: %v\nlockerd: hint: see 'lockerd --help'\n", err)
		return 2
	case o.version:
		fmt.Fprintln(stdout, "lockerd", version)
		return 0
	case o.check:
		return check(o, stdout, stderr)
	}
	if err := serve(o, stderr); err != nil {
		complain(stderr, err)
		return 1
	}
	return 0
}

// complain writes an error that ends us, a line for each of several.
func complain(stderr io.Writer, err error) {
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		fmt.Fprintf(stderr, "lockerd: %s\n", printable(line))
	}
}

// check says whether lockerd would start with this policy file.
func check(o options, stdout, stderr io.Writer) int {
	p, err := authz.Load(o.config, authz.SystemUsers())
	if err != nil {
		complain(stderr, err)
		return 1
	}
	for _, w := range allowWarnings(p.Allow) {
		fmt.Fprintf(stderr, "lockerd: warning: %s\n", w)
	}
	fmt.Fprintf(stdout, "%s: ok, %d rules, sha256 %s\n", o.config, p.RuleCount(), p.SHA256)
	return 0
}

// serve runs the broker until SIGTERM or SIGINT.
func serve(o options, stderr io.Writer) error {
	unix.Umask(0o077) // whatever is created is for us alone until it is given away on purpose. umask(2)
	logger := newLogger(o, stderr)
	// Before anything that a signal could interrupt half-way: a SIGHUP while starting must not kill.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()

	policy, reload, err := loadPolicy(o)
	if err != nil {
		return err
	}
	settings, err := o.settle(policy)
	if err != nil {
		return err
	}
	// First of all the right to the socket's name: a second lockerd is told so, and leaves nothing behind.
	listener, err := listen(settings)
	if err != nil {
		return err
	}
	defer listener.release()
	if err := makeStateDir(settings.stateDir); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	log, err := audit.Open(audit.Config{
		Dir: settings.auditDir, SegmentSize: policy.Audit.SegmentSize, GID: groupAdm(),
		Warn: func(msg string, kv ...any) { logger.Warn(msg, kv...) },
	})
	if err != nil {
		return err
	}

	b, err := broker.New(ctx, broker.Config{Policy: policy, Log: log, Logger: logger, Version: version, Reload: reload})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	// The socket appears under its name only now: the locks of the last run are held again before anybody is served.
	if err := listener.publish(); err != nil {
		return errors.Join(err, b.Close(), log.Close())
	}
	socket := listener.name()
	if problem := listener.closed(); problem != "" {
		logger.Warn("the service manager's socket", "problem", problem)
	}
	logger.Info("serving", "socket", socket, "policy", policy.File, "allow", strings.Join(policy.Allow, " "), "state_dir", settings.stateDir, "version", version)
	notify("READY=1\nSTATUS=serving " + socket)

	reloads := make(chan struct{})
	go func() {
		defer close(reloads)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				notify("RELOADING=1\nMONOTONIC_USEC=" + monotonicMicroseconds())
				b.Reload(ctx) // says in the log what came of it
				notify("READY=1")
			}
		}
	}()
	err = b.Serve(ctx, listener.UnixListener)
	notify("STOPPING=1")
	stop()
	<-reloads
	err = errors.Join(err, log.Close())
	logger.Info("stopped")
	return err
}
