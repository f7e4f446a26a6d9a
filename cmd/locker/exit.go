package main

import (
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"locker/client"
)

// The exit codes of the subcommands. The command lines of 2016 know 0 and 1 only.
const (
	exitDone        = 0
	exitAiling      = 1 // doctor's own: it worked, and somebody is not kept out or something is amiss
	exitBusy        = 120
	exitDenied      = 121
	exitUnreachable = 122
	exitUsage       = 123
	exitTimeout     = 124
	exitFailure     = 125
	exitNotRunnable = 126
	exitNotFound    = 127
	exitSignal      = 128 // plus the signal's number
)

// exitTable is the one place that says what the codes mean; the README repeats it, which a test checks.
func exitTable() [][2]string {
	return [][2]string{
		{"0", "done"},
		{"1", "`doctor`: somebody is not kept out, something is amiss, or it cannot be told"},
		{"120", "busy: somebody else holds the lock, and `--nonblock` was given"},
		{"121", "denied by the policy"},
		{"122", "lockerd cannot be reached"},
		{"123", "wrong usage"},
		{"124", "timed out waiting for the lock"},
		{"125", "any other failure"},
		{"126", "`run`: the command cannot be executed"},
		{"127", "`run`: the command was not found"},
		{"128+N", "`run`: the command was ended by signal N"},
	}
}

// usageError says that the command line makes no sense.
type usageError struct {
	text  string
	hints []string
	help  string // the command whose --help helps
}

func (e *usageError) Error() string { return e.text }

// asUsage makes a usageError of what cobra and pflag say.
func asUsage(err error, cmd *cobra.Command) error {
	u := &usageError{text: sentence(strings.ReplaceAll(err.Error(), "\n", " ")), help: "locker"}
	if cmd != nil {
		u.help = cmd.CommandPath()
	}
	return u
}

// statusError ends us with a code when all has been said.
type statusError int

func (e statusError) Error() string { return "exit status" }

// signalError ends us by a signal that came while we waited.
type signalError struct{ sig syscall.Signal }

func (e signalError) Error() string { return "ended by signal " + e.sig.String() }

// verdict is what a failure means: one exit code, lines to say.
type verdict struct {
	code  int
	lines []string
	hints []string
}

// finish says what went wrong and gives the exit code.
func (c *cli) finish(err error) int {
	if err == nil {
		return exitDone
	}
	var died signalError
	if errors.As(err, &died) {
		dieOf(died.sig)
	}
	var status statusError
	if errors.As(err, &status) { // the command's own: no flag changes it
		return int(status)
	}
	v := judge(err)
	for _, line := range v.lines {
		c.say.line(line)
	}
	for _, hint := range v.hints {
		c.say.hint(hint)
	}
	if refused := (*client.Error)(nil); errors.As(err, &refused) {
		c.saySamba(refused.Blockers)
	}
	switch {
	case c.old && v.code != exitDone:
		return 1
	case c.conflict >= 0 && (v.code == exitBusy || v.code == exitTimeout):
		return c.conflict
	}
	return v.code
}

// judge says what a failure means, with the hints that came along.
func judge(err error) verdict {
	v := judgeKind(err)
	var h *hinted
	if errors.As(err, &h) {
		v.hints = append(v.hints, h.hints...)
	}
	return v
}

// judgeKind is the one place that knows what each kind of failure is called and which code it has.
func judgeKind(err error) verdict {
	var usage *usageError
	var refused *client.Error
	var unstarted *startError
	var foreign *client.ForeignError
	var reload *reloadError
	switch {
	case errors.As(err, &unstarted):
		return verdict{code: unstarted.code, lines: []string{unstarted.text}}
	case errors.As(err, &usage):
		return verdict{exitUsage, []string{usage.text}, append(usage.hints, seeHelp(usage.help)...)}
	case errors.As(err, &foreign):
		return verdict{exitUnreachable, []string{sentence(err.Error())}, []string{hintForeign(foreign), hintUntrusted}}
	case errors.Is(err, client.ErrUntrusted):
		return verdict{exitUnreachable, []string{sentence(err.Error())}, []string{hintUntrusted}}
	case errors.As(err, &reload):
		return judgeReload(reload.refused)
	case errors.As(err, &refused):
		return judgeRefusal(refused)
	case errors.Is(err, client.ErrUnreachable):
		return verdict{exitUnreachable, []string{sentence(err.Error())}, hintsUnreachable(err)}
	}
	return verdict{code: exitFailure, lines: []string{sentence(err.Error())}}
}

// judgeReload is judge for a refused reload. The command line was right even where the policy file is not.
func judgeReload(e *client.Error) verdict {
	v := judgeRefusal(e)
	if lines := sentences(e.Text); len(lines) > 0 {
		v.lines = lines
	}
	if v.code == exitUsage {
		v.code = exitFailure
	}
	return v
}

// judgeRefusal is judge for what lockerd refuses.
func judgeRefusal(e *client.Error) verdict {
	v := verdict{code: exitFailure, lines: []string{sayRefusal(e)}}
	switch e.Code {
	case client.CodeBusy:
		v.code = exitBusy
		v.hints = []string{hintBusy}
		if len(e.Blockers) > 0 && !slices.ContainsFunc(e.Blockers, func(b client.Blocker) bool { return !b.Hidden }) {
			v.hints = []string{hintHidden}
		}
		if blocked := sayBlockers(e); len(blocked) > 0 {
			v.lines = blocked
		}
	case client.CodeTimeout:
		v.code = exitTimeout
		v.lines = append(v.lines, sayBlockers(e)...)
	case client.CodeDeadlock:
		v.lines = append(v.lines, sayBlockers(e)...)
	case client.CodeDenied:
		v.code = exitDenied
	case client.CodeInvalid:
		v.code = exitUsage
	case client.CodeShutdown:
		v.code = exitUnreachable
	case client.CodeConversion:
		v.hints = []string{hintConversion(e.Path)}
	case client.CodeVersion:
		v.hints = []string{hintVersion}
	}
	return v
}

// dieOf ends us as the signal would have, so that a shell that waits for us knows.
func dieOf(sig syscall.Signal) {
	if sig != syscall.SIGQUIT { // the runtime would print its stacks
		signal.Reset(sig)
		syscall.Kill(os.Getpid(), sig)
	}
	// Still here: QUIT, or a signal that is blocked.
	os.Exit(exitSignal + int(sig))
}
