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
)

const usage = `lockerd holds kernel file locks for users whom the policy allows.

Usage: lockerd [--config FILE] [--socket PATH] [--state-dir DIR]
       lockerd --allow PATH... [--socket PATH] [--state-dir DIR]
       lockerd --check [--config FILE]

  --config FILE       the policy (default ` + defaultConfig + `)
  --allow PATH        no policy file: serve root and the user who runs lockerd, for this path
                      and all below it; can be given several times
  --socket PATH       where to listen (default: the policy's if it names one, $LOCKER_SOCKET,
                      ` + defaultSocket + `)
  --state-dir DIR     where the log is kept (default: the policy's if it names one, ` + defaultState + `;
                      not root: $XDG_STATE_HOME/locker or ~/.local/state/locker)
  --check             say whether lockerd would start with the policy, and exit
  --log-level LEVEL   trace, debug, info, warn or error (default info)
  --log-format FORM   text or json (default text)
  --version, --help

SIGHUP takes the policy file anew; SIGTERM drains and stops.
Exit status: 0 stopped as asked, 1 failed, 2 wrong usage.
`

var errHelp = errors.New("help wanted")

// options are the words on the command line, checked but not yet completed by the policy.
type options struct {
	config             string
	configGiven        bool
	socket, stateDir   string
	allow              []string
	check, version     bool
	logLevel, logForm  string
	environmentSocket  string
	stateHome, userDir string
}

func parseOptions(args []string, getenv func(string) string) (options, error) {
	var o options
	var help bool
	f := pflag.NewFlagSet("lockerd", pflag.ContinueOnError)
	f.SetOutput(discard{})
	f.StringVar(&o.config, "config", defaultConfig, "")
	f.StringArrayVar(&o.allow, "allow", nil, "")
	f.StringVar(&o.socket, "socket", "", "")
	f.StringVar(&o.stateDir, "state-dir", "", "")
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
	o.configGiven = f.Changed("config")
	if abs, err := absolute(o.config); err == nil {
		o.config = abs // so that errors, status and log name it as anybody can find it
	}
	o.environmentSocket, o.stateHome, o.userDir = getenv("LOCKER_SOCKET"), getenv("XDG_STATE_HOME"), getenv("HOME")
	switch {
	case help:
		return o, errHelp
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.configGiven && len(o.allow) > 0:
		return o, errors.New("--config and --allow exclude each other: the whitelist stands in the policy file")
	case o.check && len(o.allow) > 0:
		return o, errors.New("--check looks at a policy file, and --allow goes without one")
	case !oneOf(o.logLevel, "trace", "debug", "info", "warn", "error"):
		return o, fmt.Errorf("--log-level is trace, debug, info, warn or error, not %q", o.logLevel)
	case !oneOf(o.logForm, "text", "json"):
		return o, fmt.Errorf("--log-format is text or json, not %q", o.logForm)
	}
	for _, flag := range []string{"socket", "state-dir", "config"} {
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

// makeStateDir makes the state directory, if it is not there, so that the group which reads the log gets through to it.
//
// Privileged: creates a directory that the administrator named; it is ours alone to write.
func makeStateDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, os.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(dir, 0o755) // whatever the umask
}
