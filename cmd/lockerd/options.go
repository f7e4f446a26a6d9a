package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"locker/authz"
)

const (
	defaultConfig = "/etc/locker/locker.toml"
	defaultSocket = "/run/locker.sock"
	defaultState  = "/var/lib/locker"
	defaultKeeper = "/run/lockerd-keeper/keeper.sock"
)

var errHelp = errors.New("help wanted")

// role is which of its processes lockerd is.
type role uint8

const (
	foreground role = iota + 1 // keeper, and parent of a broker
	keeperAlone
	brokerAlone
)

// noKeeper is what --keeper says for a broker whose locks end with it.
const noKeeper = "none"

// options are the words on the command line, checked but not yet completed by the policy.
type options struct {
	role               role
	config             string
	configGiven        bool
	socket, stateDir   string
	allow              []string
	keeper             string // socket of the keeper, or noKeeper
	acceptBrokenLog    bool
	check, version     bool
	logLevel, logForm  string
	environmentSocket  string
	stateHome, userDir string
}

func parseOptions(args []string, getenv func(string) string) (options, error) {
	o := options{role: foreground}
	name := "lockerd"
	if len(args) > 0 && (args[0] == "keeper" || args[0] == "broker") {
		o.role = brokerAlone
		if args[0] == "keeper" {
			o.role = keeperAlone
		}
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
	for _, flag := range []string{"socket", "state-dir", "config", "keeper"} {
		if f.Changed(flag) && f.Lookup(flag).Value.String() == "" {
			return o, fmt.Errorf("--%s needs a path", flag)
		}
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
		if oneOf(f.Arg(0), "keeper", "broker") {
			return fmt.Errorf("%q is the first word or none: lockerd %s [flags]", f.Arg(0), f.Arg(0))
		}
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	switch o.role {
	case keeperAlone:
		for _, flag := range []string{"config", "allow", "socket", "state-dir", "accept-broken-log", "check"} {
			if f.Changed(flag) {
				return fmt.Errorf("--%s is not for the keeper: it knows neither policy nor clients nor the log", flag)
			}
		}
		if o.keeper == noKeeper {
			return errors.New("--keeper none is for the broker; the keeper needs a socket")
		}
	case foreground:
		if f.Changed("keeper") {
			return errors.New("--keeper goes with 'lockerd broker' and 'lockerd keeper'; lockerd alone is its own keeper")
		}
	}
	return nil
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

// settings are where lockerd listens and keeps its state.
type settings struct {
	socket             string // as given: made absolute it may exceed what unix(7) allows; lockerd stays in its directory
	socketName         string // the same, absolute
	mode               os.FileMode
	group              int // -1: leave it
	stateDir, auditDir string
}

// keeperSocket is where lockerd in the foreground keeps: beside the socket for clients, which can be made where the state directory
// is read-only. If a service manager made that one, it may be where we cannot write.
func (s settings) keeperSocket(passed bool) string {
	dir := s.socketName + keeperSuffix
	if passed {
		dir = s.stateDir
	}
	return filepath.Join(dir, "keeper.sock")
}

// settle completes the options by the policy: a flag wins over the policy, the policy over the environment.
func (o options) settle(p *authz.Policy) (settings, error) {
	s := settings{socket: o.socket, stateDir: o.stateDir, mode: 0o600, group: -1}
	if p.File != "" {
		s.mode = p.Server.SocketMode
		if p.Server.HasSocketGroup {
			s.group = int(p.Server.SocketGroup)
		}
		// A policy that is silent about these has root's defaults in them.
		if s.socket == "" && p.Server.Socket != defaultSocket {
			s.socket = p.Server.Socket
		}
		if s.stateDir == "" && p.Server.StateDir != defaultState {
			s.stateDir = p.Server.StateDir
		}
	}
	if s.socket == "" {
		s.socket = o.environmentSocket
	}
	if s.socket == "" {
		s.socket = defaultSocket
	}
	if s.stateDir == "" {
		var err error
		if s.stateDir, err = o.defaultStateDir(os.Geteuid()); err != nil {
			return s, err
		}
	}
	if len(s.socket) > maxSocketPath {
		return s, fmt.Errorf("the socket's path is %d bytes long, and %d is the most: %q", len(s.socket), maxSocketPath, s.socket)
	}
	var err error
	if s.socketName, err = absolute(s.socket); err != nil {
		return s, err
	}
	if s.stateDir, err = absolute(s.stateDir); err != nil {
		return s, err
	}
	if err := authz.CheckPlaces(p.Allow, s.socketName, s.stateDir); err != nil {
		return s, err // again, since flags may have moved them
	}
	s.auditDir = filepath.Join(s.stateDir, "audit")
	return s, nil
}

// maxSocketPath is what sun_path holds, less the NUL and the suffix of the name that is bound first. unix(7).
const maxSocketPath = 107 - len(newSuffix)

func (o options) defaultStateDir(euid int) (string, error) {
	switch {
	case euid == 0:
		return defaultState, nil
	case strings.HasPrefix(o.stateHome, "/"): // a relative one is to be ignored: XDG Base Directory Specification
		return filepath.Join(o.stateHome, "locker"), nil
	case strings.HasPrefix(o.userDir, "/"):
		return filepath.Join(o.userDir, ".local", "state", "locker"), nil
	}
	return "", errors.New("no place for the log: set XDG_STATE_HOME or HOME, or give --state-dir")
}
