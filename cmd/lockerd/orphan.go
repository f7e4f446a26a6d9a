package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	orphanStart    = 3 * time.Second  // until a broker that was just starting has the log, or has ended
	orphanPatience = 10 * time.Second // until the broker of a lockerd that was killed has found us, and sent all that it holds
	orphanEnd      = 10 * time.Second // until it has ended then
)

// meetOrphan looks who still listens under our socket's name. The broker of a lockerd that was killed has the log of our state, or
// was only just starting and ends by itself. Whatever else it is has nothing to do with this state.
func (s *supervisor) meetOrphan() error {
	late := time.NewTimer(orphanStart)
	defer late.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for s.public.left && !logHeld(s.settings.auditDir) {
		who := serverOf(s.settings.socket)
		if who == "" {
			s.public.left = false
			break
		}
		select {
		case <-look.C:
		case <-late.C:
			return anotherProgram(s.settings.socket, who)
		}
	}
	return nil
}

// takeOver finds a broker that is left from a lockerd that was killed, gets copies of all that it holds, and ends it, so that a
// broker of ours can go on where it was. Clients that connect meanwhile queue in our socket.
func (s *supervisor) takeOver() error {
	pid := logHolder(s.settings.auditDir)
	if pid == 0 {
		return nil
	}
	// It may be one that has nothing to do with us: then it does not come.
	late := time.NewTimer(orphanPatience)
	defer late.Stop()
	for int(s.syncedBy.Load()) != pid {
		select {
		case <-s.synced:
		case sig := <-s.signals:
			if sig == unix.SIGTERM || sig == unix.SIGINT {
				return exitCode(0)
			}
		case <-late.C:
			return fmt.Errorf("the state directory %q is %w; stop it first, or give --state-dir", s.settings.stateDir, heldBy(pid))
		}
	}
	s.logger.Info("taking over from the broker of a lockerd that was killed", "pid", pid)
	if err := s.public.publish(); err != nil {
		return err
	}
	s.served = true // there are locks to lose
	// Whichever way it ends, we have all that it holds.
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return fmt.Errorf("end the broker of a lockerd that was killed, pid %d: %w", pid, err)
		}
		if s.logIsFree() {
			return nil
		}
	}
	return fmt.Errorf("the broker of a lockerd that was killed, pid %d, does not end", pid)
}

// logIsFree waits until a process that ends has let go of the log.
func (s *supervisor) logIsFree() bool {
	late := time.NewTimer(orphanEnd)
	defer late.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for logHeld(s.settings.auditDir) {
		select {
		case <-look.C:
		case <-late.C:
			return false
		}
	}
	return true
}
