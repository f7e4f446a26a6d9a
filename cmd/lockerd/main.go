// Lockerd holds kernel file locks for users whom the policy allows. See package broker for what it does and README.md for
// how to run it.
//
// This directory owns the daemon's flags, its socket, its signals and the order in which its processes start and stop. All
// that touches a user's path is in package flock.
//
// The broker serves clients (broker.go). The keeper has a copy of each lock's descriptor, so that locks outlive the broker
// (keep.go, package keeper). The guard refuses opens of held bundles to file servers, and dies when it hangs (guarding.go, package
// guard). Without a service manager one process is keeper and parent of the broker (supervise.go) and, where the policy has [guard],
// of the guard (guards.go); it can replace itself by a newer program (upgrade.go) and take over the broker of one that was killed
// (orphan.go).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"locker/audit"
	"locker/authz"
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
		newManager().spare(context.Background()) // a signal to end still kills us
		return 2
	case o.version:
		fmt.Fprintln(stdout, "lockerd", version)
		return 0
	case o.check:
		return check(o, stdout, stderr)
	}
	serve := supervise
	switch o.role {
	case keeperAlone:
		serve = keepAlone
	case brokerAlone:
		serve = serveClients
	case guardAlone:
		serve = guardBundles
	}
	err = serve(o, newManager(), stderr)
	var told exitCode
	switch {
	case errors.As(err, &told):
		return int(told)
	case err != nil:
		complain(stderr, err)
		return 1
	}
	return 0
}

// exitCode ends us when why has been said already: by our broker, which has ended so, or by cannotStart.
type exitCode int

func (e exitCode) Error() string { return "exit with " + strconv.Itoa(int(e)) }

// complain writes an error that ends us, a line for each of several.
func complain(stderr io.Writer, err error) {
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		fmt.Fprintf(stderr, "lockerd: %s\n", printable(line))
	}
	if errors.Is(err, audit.ErrBroken) {
		fmt.Fprint(stderr, "lockerd: hint: 'locker audit verify' says what is wrong with the log; with --accept-broken-log lockerd\n"+
			"lockerd: hint: starts all the same: what follows the damage is moved aside, and locks known from there alone are let go\n")
	}
}

// check says whether lockerd would start with this policy file.
func check(o options, stdout, stderr io.Writer) int {
	p, err := authz.Load(o.config, authz.SystemUsers())
	if err != nil {
		complain(stderr, err)
		return 1
	}
	for _, w := range append(allowWarnings(p.Allow), p.Doubts()...) {
		fmt.Fprintf(stderr, "lockerd: warning: %s\n", w)
	}
	fmt.Fprintf(stdout, "%s: ok, %d rules, sha256 %s\n", o.config, p.RuleCount(), p.SHA256)
	return 0
}
