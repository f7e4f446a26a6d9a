package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"locker/client"
)

// lockerdReport is what lockerd says of itself, and what root can see of it beside.
type lockerdReport struct {
	err    error // it cannot be asked
	status *client.Status
	guard  guarding

	capabilities uint64 // of its broker, from proc(5)
	capsKnown    bool

	stateDir string // "" if it is not known
	free     uint64 // bytes that lockerd may use there
	spaceErr error

	checked  bool // lockerd --check was run
	checkErr error
}

func (d *doctor) lookAtLockerd(ctx context.Context, c *cli) lockerdReport {
	var r lockerdReport
	bounded, stop := context.WithTimeout(ctx, d.patience)
	defer stop()
	r.err = c.with(bounded, func(conn *client.Client) (err error) {
		if r.status, err = conn.Status(bounded); err == nil {
			r.guard, err = askGuard(bounded, conn)
		}
		return err
	})
	if r.status != nil {
		r.capabilities, r.capsKnown = d.capabilitiesOf(int(r.status.BrokerPID))
	}
	if d.euid != 0 {
		return r
	}
	r.stateDir = d.stateDir(r.status)
	if r.stateDir != "" {
		var fs unix.Statfs_t
		if r.spaceErr = unix.Statfs(r.stateDir, &fs); r.spaceErr == nil {
			r.free = fs.Bfree * uint64(fs.Bsize) // root's, who may use the reserved blocks too
		}
	}
	r.check(ctx, d)
	return r
}

// check has lockerd look at its policy file.
func (r *lockerdReport) check(ctx context.Context, d *doctor) {
	file := defaultPolicy
	if r.status != nil {
		if file = r.status.PolicyFile; file == "" {
			return // it has none
		}
	}
	path := d.ownLockerd()
	if _, err := os.Stat(file); err != nil || path == "" {
		return
	}
	_, r.checkErr = d.programs.run(ctx, d.patience, path, "--check", "--config", file)
	r.checked = true
}

// ownLockerd finds the lockerd beside our own executable, whoever put us there, or where programs looks.
func (d *doctor) ownLockerd() string {
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), "lockerd")
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && (!d.programs.root || rootsAlone(info)) {
			return path
		}
	}
	return d.programs.find("lockerd")
}

// stateDir finds lockerd's state directory by the log that it has open, or where it is by default.
func (d *doctor) stateDir(s *client.Status) string {
	if s != nil && s.AuditSegment != "" {
		fds, _ := filepath.Glob(filepath.Join(d.proc, strconv.Itoa(int(s.BrokerPID)), "fd", "*"))
		for _, fd := range fds {
			if file, err := os.Readlink(fd); err == nil {
				if dir, ok := strings.CutSuffix(file, "/audit/"+s.AuditSegment); ok {
					return dir
				}
			}
		}
	}
	if info, err := os.Stat(defaultState); err == nil && info.IsDir() {
		return defaultState
	}
	return ""
}

// capabilitiesOf reads the effective capabilities of a process, if it is a lockerd as far as we see: its number may be one of
// another namespace. proc_pid_status(5)
func (d *doctor) capabilitiesOf(pid int) (uint64, bool) {
	text, err := os.ReadFile(filepath.Join(d.proc, strconv.Itoa(pid), "status"))
	if err != nil || !strings.HasPrefix(string(text), "Name:\tlockerd\n") {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return caps, err == nil
		}
	}
	return 0, false
}

func (r *lockerdReport) can(capability uint) bool { return r.capabilities&(1<<capability) != 0 }

// lowSpace is less than a segment of the log takes by default.
const lowSpace = 64 << 20 // bytes

func (r *lockerdReport) problems() []string {
	var all []string
	if r.err != nil {
		all = append(all, judge(r.err).lines...)
	}
	if s := r.status; s != nil {
		if s.AuditError != "" {
			all = append(all, "lockerd grants nothing: "+sentence(s.AuditError))
		}
		if s.PolicyError != "" {
			all = append(all, "lockerd refuses its newest policy file; see 'locker status'")
		}
		if r.guard.state == client.GuardDown {
			all = append(all, whyGuardDown)
		}
	}
	if r.stateDir != "" && r.spaceErr == nil && r.free < lowSpace {
		all = append(all, fmt.Sprintf("%s: only %s free", shown(r.stateDir), bytesWords(r.free)))
	}
	if r.checkErr != nil {
		all = append(all, sayCheckFailed(r.checkErr))
	}
	return all
}
