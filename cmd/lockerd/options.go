package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

const (
	defaultConfig = "/etc/locker/locker.toml"
	defaultSocket = "/run/locker.sock"
	defaultState  = "/var/lib/locker"
	defaultKeeper = "/run/lockerd-keeper/keeper.sock"
	defaultGuard  = "/run/lockerd-guard/guard.sock"
)

var errHelp = errors.New("help wanted")

// role is which of its processes lockerd is.
type role uint8

const (
	foreground role = iota + 1 // keeper, and parent of a broker and a guard
	keeperAlone
	guardAlone
	brokerAlone
)

// noKeeper is what --keeper says for a broker whose locks end with it.
const noKeeper = "none"

// noGuard is what --guard says for a broker that looks for none.
const noGuard = "none"

// options are the words on the command line, checked but not yet completed by the policy.
type options struct {
	role               role
	config             string
	configGiven        bool
	socket, stateDir   string
	allow              []string
	keeper             string // socket of the keeper, or noKeeper
	guard              string // socket of the guard, or noGuard
	brokerUser         string // of the guard: whom it serves beside root; "": nobody
	acceptBrokenLog    bool
	check, version     bool
	logLevel, logForm  string
	environmentSocket  string
	stateHome, userDir string
}

func parseOptions(args []string, getenv func(string) string) (options, error) {
	o := options{role: foreground}
	name := "lockerd"
	if len(args) > 0 && roleOf(args[0]) != foreground {
		o.role = roleOf(args[0])
		name, args = "lockerd "+args[0], args[1:]
	}
	var help bool
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SetOutput(discard{})
	f.StringVar(&o.config, "config", defaultConfig, "")
	f.StringArrayVar(&o.allow, "allow", nil, "")
	f.StringVar(&o.socket, "socket", "", "")
	f.StringVar(&o.stateDir, "state-dir", "", "")
	f.StringVar(&o.keeper, "keeper", defaultKeeper, "")
	f.StringVar(&o.guard, "guard", defaultGuard, "")
	f.StringVar(&o.brokerUser, "broker-user", "", "")
	f.BoolVar(&o.acceptBrokenLog, "accept-broken-log", false, "")
	f.BoolVar(&o.check, "check", false, "")
	f.StringVar(&o.logLevel, "log-level", "info", "")
	f.StringVar(&o.logForm, "log-format", "text", "")
	f.BoolVar(&o.version, "version", false, "")
	f.BoolVarP(&help, "help", "h", false, "")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return o, errHelp
		}
		return o, err
	}
	if help {
		return o, errHelp
	}
	if err := o.misplaced(f); err != nil {
		return o, err
	}
	o.configGiven = f.Changed("config")
	if abs, err := absolute(o.config); err == nil {
		o.config = abs // so that errors, status and log name it as anybody can find it
	}
	o.environmentSocket, o.stateHome, o.userDir = getenv("LOCKER_SOCKET"), getenv("XDG_STATE_HOME"), getenv("HOME")
	switch {
	case o.configGiven && len(o.allow) > 0:
		return o, errors.New("--config and --allow exclude each other: the whitelist stands in the policy file")
	case o.check && len(o.allow) > 0:
		return o, errors.New("--check looks at a policy file, and --allow goes without one")
	case !oneOf(o.logLevel, "trace", "debug", "info", "warn", "error"):
		return o, fmt.Errorf("--log-level is trace, debug, info, warn or error, not %q", o.logLevel)
	case !oneOf(o.logForm, "text", "json"):
		return o, fmt.Errorf("--log-format is text or json, not %q", o.logForm)
	}
	for _, flag := range []string{"socket", "state-dir", "config", "keeper", "guard"} {
		if f.Changed(flag) && f.Lookup(flag).Value.String() == "" {
			return o, fmt.Errorf("--%s needs a path", flag)
		}
	}
	if f.Changed("broker-user") && o.brokerUser == "" {
		return o, errors.New("--broker-user needs a user")
	}
	for i, path := range o.allow {
		abs, err := absolute(path)
		if err != nil {
			return o, err
		}
		o.allow[i] = abs
	}
	return o, nil
}

// misplaced refuses what does not go with the role.
func (o options) misplaced(f *pflag.FlagSet) error {
	if f.NArg() > 0 {
		if roleOf(f.Arg(0)) != foreground {
			return fmt.Errorf("%q is the first word or none: lockerd %s [flags]", f.Arg(0), f.Arg(0))
		}
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	ofBroker := []string{"config", "allow", "socket", "state-dir", "accept-broken-log", "check"}
	changed := func(flags ...string) string {
		for _, flag := range flags {
			if f.Changed(flag) {
				return flag
			}
		}
		return ""
	}
	if o.role != guardAlone && changed("broker-user") != "" {
		return errors.New("--broker-user goes with 'lockerd guard'")
	}
	switch o.role {
	case keeperAlone:
		if flag := changed(append(ofBroker, "guard")...); flag != "" {
			return fmt.Errorf("--%s is not for the keeper: it knows neither policy nor clients nor the log", flag)
		}
		if o.keeper == noKeeper {
			return errors.New("--keeper none is for the broker; the keeper needs a socket")
		}
	case guardAlone:
		if flag := changed(append(ofBroker, "keeper")...); flag != "" {
			return fmt.Errorf("--%s is not for the guard: it knows neither policy nor clients nor the log", flag)
		}
		if o.guard == noGuard {
			return errors.New("--guard none is for the broker; the guard needs a socket")
		}
	case foreground:
		if changed("keeper") != "" {
			return errors.New("--keeper goes with 'lockerd broker' and 'lockerd keeper'; lockerd alone is its own keeper")
		}
		if changed("guard") != "" {
			return errors.New("--guard goes with 'lockerd broker' and 'lockerd guard'; lockerd alone starts its own guard")
		}
	}
	return nil
}

// roleOf is what the first word asks for.
func roleOf(word string) role {
	switch word {
	case "keeper":
		return keeperAlone
	case "broker":
		return brokerAlone
	case "guard":
		return guardAlone
	}
	return foreground
}

// discard swallows what pflag would print: errors are ours to word.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func oneOf(word string, words ...string) bool {
	for _, w := range words {
		if w == word {
			return true
		}
	}
	return false
}

// absolute makes a path of the command line absolute by the kernel's word for the working directory, not $PWD, which may
// lead through symbolic links.
func absolute(path string) (string, error) {
	if path == "" {
		return "", errors.New("an empty path")
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	dir, err := unix.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	return filepath.Join(dir, path), nil
}
