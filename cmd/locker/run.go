package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"locker/client"
)

const (
	killAfter   = 10 * time.Second // from SIGTERM to SIGKILL, when the lock is lost
	lossGrace   = 15 * time.Second // asked of lockerd: killAfter, and time for the dead to be gone
	releaseTime = 10 * time.Second // for lockerd's answer to the release; then we go
)

func (c *cli) runCommand() *cobra.Command {
	var how asking
	var onLoss string
	var cmd *cobra.Command
	cmd = c.command("run [-s | --idle] [-n | -w DUR] [--reason TEXT] [--on-loss kill|warn] PATH... -- COMMAND [ARG...]",
		wordsRun, wordsRunLong, func(ctx context.Context, args []string) error {
			dash := cmd.ArgsLenAtDash()
			switch {
			case dash < 0 || dash == len(args):
				return &usageError{text: wordsNoDash}
			case onLoss != "kill" && onLoss != "warn":
				return &usageError{text: sayBadWord("on-loss", onLoss, "kill", "warn")}
			}
			r, err := how.request(c, cmd.Flags(), args[:dash])
			if err != nil {
				return err
			}
			j := job{c: c, argv: args[dash:], warnOnly: onLoss == "warn"}
			if !j.warnOnly {
				r.Grace = lossGrace
			}
			// Before we wait: a command that is not there is no reason to keep others out.
			if j.path, err = program(j.argv[0]); err != nil {
				return err
			}
			return j.run(ctx, r)
		})
	how.flags(c, cmd.Flags())
	cmd.Flags().StringVar(&onLoss, "on-loss", "kill", flagOnLoss)
	return cmd
}

// program finds the command as env(1) would.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil, errors.Is(err, exec.ErrDot): // "." in the PATH is the user's wish
		return path, nil
	case errors.Is(err, fs.ErrPermission):
		return "", notRunnable(name, syscall.EACCES)
	}
	return "", notRunnable(name, syscall.ENOENT)
}

// notRunnable is the error for a command that did not start, with env(1)'s codes.
func notRunnable(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &startError{exitNotFound, sayNotFound(name)}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno
	}
	return &startError{exitNotRunnable, sayNotRunnable(name, err)}
}

// startError says that the command of 'run' did not start.
type startError struct {
	code int
	text string
}

func (e *startError) Error() string { return e.text }

// job is one 'locker run'.
type job struct {
	c        *cli
	argv     []string
	path     string // of the program
	warnOnly bool   // --on-loss warn
	lost     bool
	altered  map[uint64]client.Alteration // what was said of each hold last
}

// run takes the lock, runs the command and releases the lock.
func (j *job) run(ctx context.Context, r client.Request) error {
	w := beginWait()
	conn, lock, err := j.c.acquire(w.ctx(ctx), r)
	// No signal falls between the two: first the one channel listens, then the other stops.
	alone := !hasTerminal()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded(alone)...)
	defer signal.Stop(signals)
	w.end()
	if conn != nil {
		defer conn.Close()
	}
	if err := w.verdict(conn, lock, err); err != nil {
		return err
	}
	j.c.warnUnseen(ctx, conn, lock.Holds())
	child, err := start(j.path, j.argv, environment(lock), alone, !j.warnOnly)
	if err != nil {
		j.release(lock)
		return notRunnable(j.argv[0], err)
	}
	code := exitCode(j.attend(child, lock, signals))
	j.drain(lock)
	j.release(lock)
	j.drainAltered(lock)
	if j.lost && !j.warnOnly && code == exitDone {
		code = exitFailure // whatever it did, it did not do all of it under the lock
	}
	return statusError(code)
}

// environment gives the command ours, and what it may want to know of its lock.
func environment(lock *client.Lock) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool {
		name, _, _ := strings.Cut(s, "=")
		return slices.Contains([]string{"LOCKER_PATH", "LOCKER_PATHS", "LOCKER_TOKEN", "LOCKER_TOKENS"}, name)
	})
	var paths, tokens []string
	for _, h := range lock.Holds() {
		paths = append(paths, h.Path)
		tokens = append(tokens, strconv.FormatUint(h.Token, 10))
	}
	return append(env,
		"LOCKER_PATH="+paths[0], "LOCKER_TOKEN="+strconv.FormatUint(lock.Token(), 10),
		"LOCKER_PATHS="+strings.Join(paths, "\n"), "LOCKER_TOKENS="+strings.Join(tokens, "\n"))
}

// attend waits for the end of the command, passes signals on, and ends it when the lock is lost.
func (j *job) attend(child *child, lock *client.Lock, signals <-chan os.Signal) syscall.WaitStatus {
	lost, altered := lock.Lost(), lock.Altered()
	for {
		select {
		case a, ok := <-altered:
			if !ok {
				altered = nil
				continue
			}
			j.warnAltered(a)
		case status := <-child.exit:
			return status
		case s := <-signals:
			child.forward(s.(syscall.Signal))
		case loss, ok := <-lost:
			if !ok {
				lost = nil
				continue
			}
			j.lost = true
			if j.warnOnly {
				j.c.say.warning(lossWords(loss) + lossWarn)
				continue
			}
			j.c.say.line(lossWords(loss) + lossKill)
			return j.end(child, signals)
		}
	}
}

// end ends the command and all that it started, and returns when they are gone, or cannot be killed.
func (j *job) end(child *child, signals <-chan os.Signal) (status syscall.WaitStatus) {
	const look = 50 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	kill := time.After(killAfter)
	giveUp := time.After(lossGrace - time.Second)
	told := map[int]bool{} // who has had the signal
	sig := syscall.SIGTERM
	exited := false
	child.signalAll(sig, told)
	for {
		select {
		case status = <-child.exit:
			exited = true
			if !child.signalAll(sig, told) {
				return status
			}
		case s := <-signals:
			child.forward(s.(syscall.Signal))
		case <-tick.C:
			// Again for those who were just being born, until nobody is left.
			if !child.signalAll(sig, told) && exited {
				return status
			}
		case <-kill:
			j.c.say.line(lossKilled)
			sig = syscall.SIGKILL
			clear(told)
			child.signalAll(sig, told)
		case <-giveUp:
			j.c.say.warning(lossSurvives)
			if !exited {
				return syscall.WaitStatus(syscall.SIGKILL) // what it will die of
			}
			return status
		}
	}
}

// drain finds a loss that came together with the command's end.
func (j *job) drain(lock *client.Lock) {
	if j.lost {
		return // has been said
	}
	select {
	case loss, ok := <-lock.Lost():
		if ok {
			j.lost = true
			j.c.say.warning(lossWords(loss) + lossTooLate)
		}
	default:
	}
}

// warnAltered says what is new in a.
func (j *job) warnAltered(a client.Alteration) {
	before := j.altered[a.Token]
	if a.Lapsed && !before.Lapsed {
		j.c.say.warning(lapsedWarning(a))
	}
	if a.Count != before.Count || a.Missed != before.Missed {
		j.c.say.warning(alteredWarning(a))
	}
	if j.altered == nil {
		j.altered = map[uint64]client.Alteration{}
	}
	j.altered[a.Token] = a
}

// drainAltered says what was told last: all that was altered before the release has been told with it.
func (j *job) drainAltered(lock *client.Lock) {
	for {
		select {
		case a, ok := <-lock.Altered():
			if ok {
				j.warnAltered(a)
				continue
			}
		default:
		}
		return
	}
}

// release gives the lock back. Should lockerd not answer, the end of the connection does the same.
func (j *job) release(lock *client.Lock) {
	ctx, stop := context.WithTimeout(context.Background(), releaseTime)
	defer stop()
	if err := lock.Unlock(ctx); err != nil && !j.lost {
		j.c.say.warning(sayReleaseFailed(err))
	}
}

// exitCode is what a shell would say of the status.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return status.ExitStatus()
}
