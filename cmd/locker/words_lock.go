package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"locker/client"
	"locker/wire"
)

// The words about locks and about the command of 'locker run': the rest of words.go.

// blockerWords says who is in the way, as the end of a sentence that begins with the file.
func blockerWords(b client.Blocker, now time.Time) string {
	if unquiet(b) {
		return notQuiet + ": " + shown(b.Reason)
	}
	verb := "is held by "
	if b.Kind == wire.Waiter {
		verb = "is waited for, ahead of us, by "
	}
	who := verb + blockerName(b, shown)
	if !b.Since.IsZero() {
		who += " since " + clock(b.Since, now)
	}
	if b.Reason != "" {
		who += ": " + shown(b.Reason)
	}
	return who
}

const notQuiet = "is not quiet"

// unquiet says that nobody in particular is in the way, but that the file was written too lately.
func unquiet(b client.Blocker) bool {
	return b.Kind == wire.Outside && !b.Hidden && b.PID <= 0 && b.Reason != ""
}

// briefly is blockerWords for the line that waits, in ASCII: what matters most stands first, the command is left out, and
// the reason, which is the first to be cut, comes apart.
func briefly(b client.Blocker, now time.Time) (who, reason string) {
	who = " is held by "
	if b.Kind == wire.Waiter {
		who = " is waited for by " // that it is ahead of us, our place says
	}
	if b.Reason != "" {
		reason = ": " + ascii(b.Reason)
	}
	if unquiet(b) {
		return " " + notQuiet, reason
	}
	if b.Hidden || b.Kind == wire.Outside { // a program outside has no since, and its command is its name
		b.Command = brief(b.Command)
		who += blockerName(b, ascii)
		if !b.Since.IsZero() {
			who += " since " + clock(b.Since, now)
		}
		return who, reason
	}
	name := "uid " + strconv.FormatUint(uint64(b.UID), 10)
	if b.User != "" {
		name = ascii(b.User)
	}
	who += name
	if !b.Since.IsZero() {
		who += " since " + clock(b.Since, now)
	}
	if b.PID > 0 {
		who += fmt.Sprintf(" (pid %d)", b.PID)
	}
	return who, reason
}

func blockerName(b client.Blocker, show func(string) string) string {
	outside := b.Kind == wire.Outside
	if b.Hidden {
		if outside {
			return "a program outside locker"
		}
		return "another user"
	}
	user := b.User
	if user == "" {
		user = "uid " + strconv.FormatUint(uint64(b.UID), 10)
	} else {
		user = show(user)
	}
	var facts []string
	if b.PID > 0 {
		facts = append(facts, fmt.Sprintf("pid %d", b.PID))
	}
	if !outside {
		if b.Command != "" {
			facts = append(facts, show(b.Command))
		}
		return user + parenthesis(facts)
	}
	if b.PID <= 0 { // nobody was found who has it open
		return "a program outside locker"
	}
	name := "a program"
	if b.Command != "" {
		name = show(b.Command)
	}
	return name + parenthesis(append(facts, "user "+user)) + " outside locker"
}

func parenthesis(facts []string) string {
	if len(facts) == 0 {
		return ""
	}
	return " (" + strings.Join(facts, ", ") + ")"
}

// waitingWords is the line while we wait on a terminal, in ASCII. A path that leaves no room for the rest is shortened.
func waitingWords(paths []string, q client.Queue, now time.Time, width int) string {
	line := "locker: waiting, we are next: "
	if q.Position > 1 {
		line = fmt.Sprintf("locker: waiting, we are number %d: ", q.Position)
	}
	path, who, reason := paths[0], " is in use", ""
	if len(paths) > 1 {
		path = ""
	}
	if len(q.Blockers) > 0 {
		who, reason = briefly(q.Blockers[0], now)
		if p := q.Blockers[0].Path; p != "" {
			path = p
		}
	}
	what := fmt.Sprintf("one of %d files", len(paths))
	if path != "" {
		what = pathEnd(path, width-len(line)-len(who))
	}
	return line + what + who + reason
}

// pathEnd shows as much of a path's end as fits, in ASCII; "it" if that would be too little to know it by.
func pathEnd(path string, width int) string {
	const least = 8 // columns
	if text := ascii(path); len(text) <= max(width, 2) {
		return text
	}
	if width < least {
		return "it"
	}
	for i := max(1, len(path)-width); i < len(path); i++ {
		if text := ascii("..." + path[i:]); utf8.RuneStart(path[i]) && len(text) <= width {
			return text
		}
	}
	return "it"
}

// sayGrant is the line on standard output for a locked file.
func sayGrant(h client.Hold) string {
	word := "locked"
	if h.Already {
		word = "already locked"
	}
	line := fmt.Sprintf("%s %s token=%d rests=%s", word, shown(h.Path), h.Token, strings.Join(h.Rests.Names(), ","))
	if !h.Expires.IsZero() {
		line += " expires=" + h.Expires.UTC().Format(time.RFC3339)
	}
	return line
}

// sayUnseen is the warning for a bundle that was locked, and of which it is not known that nobody has it open.
func sayUnseen(path string) string {
	return shown(path) + ": a Samba Time Machine share does not see these locks, and lockerd cannot tell whether somebody has it open"
}

// sayUnguarded is the warning for a bundle that the guard does not guard, though the policy says so.
func sayUnguarded(path string, g guarding) string {
	var programs []string
	for _, p := range g.programs {
		programs = append(programs, shown(p))
	}
	text := shown(path) + ": not guarded: " + strings.Join(programs, ", ") + " may open what is in it; "
	if g.state == client.GuardDown {
		return text + "the guard is down, see 'locker status'"
	}
	return text + logSaysWhy
}

const logSaysWhy = "lockerd's log says why"

// sayNoHelp is the warning for locks that a file server does not heed at all: on v's path, and on so many more.
func sayNoHelp(v verdictOn, more int) string {
	what := shown(v.path)
	if more > 0 {
		what += fmt.Sprintf(" and %d more", more)
	}
	return what + ": does not keep " + sayServer(v) + " out: " + v.why + "; see 'locker doctor'"
}

// sayNoHelpDirectory is likewise for a lock on a directory, which is flock's whoever serves it.
func sayNoHelpDirectory(v verdictOn) string {
	return shown(v.path) + ": a lock on a directory does not keep " + sayServer(v) + " out of what is in it: lock the files, or a bundle"
}

func saySambaClient(pid int32, who string) string {
	return fmt.Sprintf("smbd (pid %d) works for %s", pid, shown(who))
}

func sayReleased(what string) string { return "released " + what }
func sayNotLocked(path string) string {
	return "not locked " + shown(path)
}
func sayBroken(id uint64) string    { return fmt.Sprintf("broken token=%d", id) }
func sayToken(id uint64) string     { return fmt.Sprintf("token=%d", id) }
func sayNoSuchID(id uint64) string  { return fmt.Sprintf("you hold no lock with id %d", id) }
func sayNobody(what string) string  { return "nobody holds " + what }
func sayNotFound(cmd string) string { return shown(cmd) + ": command not found" }
func sayNotRunnable(cmd string, err error) string {
	return shown(cmd) + ": " + err.Error()
}

// lossWords says that a lock is lost, and how.
func lossWords(l client.Loss) string {
	how := ""
	switch l.Cause {
	case client.Broken:
		how = "broken"
		if l.By != "" {
			how += " by " + shown(l.By)
		}
	case client.Expired:
		how = "its time was over"
	case client.Stopped:
		how = "lockerd is stopping"
	case client.Disconnected:
		how = "lockerd went away"
		if client.CodeOf(l.Err) == client.CodeLost {
			how = "lockerd did not keep it" // be it that it was restarted, or that the hold has ended while we were away
		}
	default:
		how = l.Cause.String()
	}
	if l.Reason != "" {
		how += ": " + shown(l.Reason)
	}
	return "lost the lock on " + shown(l.Path) + " (" + how + ")"
}

const (
	lossKill     = "; ending the command"
	lossWarn     = "; the command goes on without it"
	lossTooLate  = " before the command ended"
	lossKilled   = "the command did not end within 10 seconds of SIGTERM; killing it"
	lossSurvives = "the command cannot be killed; others may get the lock while it runs"
)

func sayReleaseFailed(err error) string { return "release the lock: " + err.Error() }
