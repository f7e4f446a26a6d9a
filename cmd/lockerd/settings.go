package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"locker/authz"
)

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
