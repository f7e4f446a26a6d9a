package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// carriedVariable holds what goes through execve(2), as JSON.
const carriedVariable = "LOCKERD_CARRIED"

// carried is that: numbers of descriptors, and what they are.
type carried struct {
	PID        int // ours, which execve does not change: a child that finds the variable is not meant
	Socket     string
	SocketName string
	Mode       os.FileMode
	Group      int
	StateDir   string
	AuditDir   string
	Public     int // listening socket for clients
	PublicLock int // -1: the socket is a service manager's
	Bound      bool
	Keeper     int // listening socket for brokers
	KeeperPath string
	KeeperLock int  // -1: there is none
	Broker     int  // pid
	Report     int  // where that says how it is
	Another    bool // upgrade is wanted
	Guard      int  // pid; 0: there is none
	GuardSays  int  // as Report
}

// carry makes descriptors that survive execve(2) and the text that says what they are. free closes them, if it was in vain.
func (s *supervisor) carry() (text string, free func(), err error) {
	c := carried{
		PID: os.Getpid(), Socket: s.settings.socket, SocketName: s.settings.socketName, Mode: s.settings.mode, Group: s.settings.group,
		StateDir: s.settings.stateDir, AuditDir: s.settings.auditDir,
		PublicLock: -1, KeeperLock: -1, Bound: s.public.bound, KeeperPath: s.keeper.path, Broker: s.broker.process.Pid, Another: s.upgrade.another,
	}
	var copies []int
	free = func() {
		for _, fd := range copies {
			unix.Close(fd)
		}
	}
	// A copy without close-on-exec: the original keeps its flag, should we go on. fcntl(2).
	carry := func(to *int, fd int) {
		var cerr error
		if *to, cerr = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 3); cerr != nil {
			err = errors.Join(err, cerr)
			return
		}
		copies = append(copies, *to)
	}
	carryOf := func(to *int, from syscall.Conn) {
		raw, cerr := from.SyscallConn()
		if cerr == nil {
			cerr = raw.Control(func(fd uintptr) { carry(to, int(fd)) })
		}
		err = errors.Join(err, cerr)
	}
	if g := s.guards.child; g != nil {
		c.Guard = g.process.Pid
		carryOf(&c.GuardSays, g.report)
		if err != nil { // it has ended just now, which keeps nobody from an upgrade; else it ends when nobody hears it any more
			c.Guard, c.GuardSays, err = 0, 0, nil
		}
	}
	carryOf(&c.Public, s.public.UnixListener)
	carryOf(&c.Keeper, s.keeper.UnixListener)
	carryOf(&c.Report, s.broker.report)
	if s.keeper.lock >= 0 {
		carry(&c.KeeperLock, s.keeper.lock)
	}
	if s.public.lock >= 0 {
		carry(&c.PublicLock, s.public.lock)
	}
	words, jerr := json.Marshal(c)
	return string(words), free, errors.Join(err, jerr)
}

// takeCarried takes what the program before this one has left us; false if there was none.
func (s *supervisor) takeCarried() (bool, error) {
	text := os.Getenv(carriedVariable)
	os.Unsetenv(carriedVariable)
	var c carried
	if text == "" || json.Unmarshal([]byte(text), &c) != nil || c.PID != os.Getpid() {
		return false, nil
	}
	s.settings = settings{socket: c.Socket, socketName: c.SocketName, mode: c.Mode, group: c.Group, stateDir: c.StateDir, auditDir: c.AuditDir}
	for _, fd := range []int{c.PublicLock, c.KeeperLock, c.Report, c.GuardSays} {
		if fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	public, err := carriedListener(c.Public)
	if err != nil {
		return true, err
	}
	s.public = &listener{UnixListener: public, settings: s.settings, lock: c.PublicLock, bound: c.Bound}
	kept, err := carriedListener(c.Keeper)
	if err != nil {
		return true, err
	}
	s.keeper = &takenPlace{UnixListener: kept, path: c.KeeperPath, lock: c.KeeperLock}
	if s.broker, err = carriedChild(c.Broker, c.Report); err != nil {
		return true, fmt.Errorf("take over the broker: %w", err)
	}
	s.broker.ready, s.served, s.upgrade.replace, s.upgrade.another = true, true, c.Broker, c.Another
	if c.Guard != 0 {
		guard, err := carriedChild(c.Guard, c.GuardSays)
		if err != nil {
			return true, fmt.Errorf("take over the guard: %w", err)
		}
		s.takeGuard(guard)
	}
	s.logger.Info("upgrade: the new program runs", "version", version)
	return true, nil
}

func carriedChild(pid, report int) (*child, error) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	says, err := reportFile(report)
	if err != nil {
		return nil, err
	}
	return watchChild(process, says), nil
}

func carriedListener(fd int) (*net.UnixListener, error) {
	l, err := listenerOf(fd)
	if err != nil {
		return nil, fmt.Errorf("take descriptor %d, which was carried over: %w", fd, err)
	}
	return l, nil
}
