package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"locker/client"
)

// Every word that locker says to people is in this file. Lower case, no full stop at the end of a line, the fact first;
// a hint tells what to type. Bytes of others only through shown.

// Help.
const (
	wordsRoot     = "keep other people out of a file while you work on it"
	wordsRootLong = `locker asks lockerd for kernel file locks, on files that you may lock but perhaps not open.

A lock taken by 'locker run' lasts as long as its command; one taken by 'locker lock' lasts until 'locker unlock',
'locker break', or the end of its --ttl.

The command lines of 2016 (locker -lock -path FILE, locker --server ...) work as they did.

Exit codes: 0 done, 1 'locker doctor' found something amiss, 120 busy, 121 denied, 122 lockerd cannot be reached, 123
usage, 124 timed out, 125 any other failure, 126 and 127 as env(1).`
	wordsSocket = "lockerd's `socket` (default $LOCKER_SOCKET, else " + client.DefaultSocket + ")"

	wordsLock     = "lock files until they are unlocked"
	wordsLockLong = `Lock files, all or none, until 'locker unlock', 'locker break', or the end of --ttl.

Waits for as long as it takes, unless told otherwise. Who holds them already, under the same tag, is told so and has
them still. Prints a line for each file, with its fencing token.`
	wordsUnlock     = "release locks that 'locker lock' took"
	wordsUnlockLong = `Release your own locks: on these files, with this id, or all. What is not locked is no error.`
	wordsRun        = "run a command while holding locks"
	wordsRunLong    = `Lock files, run a command, and release them when it ends. No shell is involved; the command gets our standard input
and output, and signals sent to locker. The exit code is the command's, or 128+N if signal N ended it.

The environment of the command has LOCKER_PATH (the first file, as an absolute path) and LOCKER_TOKEN (the greatest
fencing token), and for several files LOCKER_PATHS and LOCKER_TOKENS (one per line, in the order given).

If the lock is lost on the way, the command is sent SIGTERM and, 10 seconds later, SIGKILL; locker then never exits
with 0. With --on-loss warn it is left alone.`
	wordsList      = "show who holds locks and who waits"
	wordsListLong  = `Show your own locks and waiting requests, or, with --all, everybody's that the policy lets you see.`
	wordsStatus    = "show how lockerd is"
	wordsBreak     = "take somebody's lock away"
	wordsBreakLong = `Take somebody's lock away, if the policy lets you. The holder is told, and has his grace to stop; the reason is
told to him and recorded.`
	wordsReload      = "have lockerd read its policy file anew (root)"
	wordsPolicy      = "check and explain the policy"
	wordsCheck       = "check a policy file without using it"
	wordsExplain     = "say what the policy decides, and why (root)"
	wordsExplainLong = `Say whether the policy lets a user lock a path, which rule decides, and why the others do not. Exit code 121 if it
does not.`
	wordsRules    = "show what you may lock"
	wordsAudit    = "read and verify the audit log"
	wordsShow     = "print the audit log"
	wordsShowLong = `Print the records of the audit log, oldest first. Needs no lockerd, but the right to read its files.

A TIME is RFC 3339, "2006-01-02", "2006-01-02 15:04", or a duration like 2h for that long ago.`
	wordsVerify     = "check the audit log's chain"
	wordsVerifyLong = `Check that no record of the audit log was changed, removed, reordered or cut. Needs no lockerd. Exit code 125 if
there is any problem.`
	wordsVersion = "print the version"
)

// Flags.
const (
	flagShared   = "share the lock with others who do"
	flagIdle     = "only when nobody else has the files open; a sparsebundle waits for that anyway"
	flagNonblock = "do not wait: exit with 120 when it is busy"
	flagTimeout  = "wait at most `DUR` (30s, 5m; a bare number is seconds), then exit with 124"
	flagTTL      = "release it by itself after `DUR`"
	flagTag      = "own the lock under this `TAG`, apart from your other locks"
	flagReason   = "`TEXT` for those who are kept waiting, and for the audit log"
	flagConflict = "exit with `N` instead of 120 and 124"
	flagJSON     = "print JSON"
	flagID       = "the lock with this id (its token)"
	flagAll      = "all your locks, whatever their tag unless --tag is given"
	flagOnLoss   = "when the lock is lost, `kill|warn`: end the command, or only say so"
	flagListAll  = "everybody's"
	flagWatch    = "print again after each change"
	flagUser     = "the `USER`, by name or uid"
	flagGroups   = "with these `GROUPS`, by name or gid, instead of those of the user database"
	flagMode     = "`exclusive|shared`: how to lock"
	flagState    = "lockerd's state `DIR`; if that cannot be read, $XDG_STATE_HOME/locker or ~/.local/state/locker"
	flagWho      = "only records about this `USER`, by name or uid"
	flagPath     = "only records about this `PATH` and all below it"
	flagEvent    = "only these `EVENTS`: grant, deny, release, ..."
	flagSince    = "from this `TIME` on"
	flagUntil    = "before this `TIME`"
	flagSeq      = "record `N`, or N-M"
	flagRaw      = "print the records as they are in the log: one JSON object per line"
)

// Usage errors.
const (
	wordsNoCommand   = "no command given"
	wordsNoPath      = "no file given"
	wordsEmptyPath   = "the path is empty"
	wordsNoDirectory = "the current directory cannot be reached by a path; give absolute paths"
	wordsWaitTwice   = "--nonblock and --timeout exclude each other"
	wordsSharedIdle  = "--shared and --idle exclude each other: who shares the lock may have the file open"
	wordsNoDash      = "no command given: it goes behind '--'"
	wordsNoReason    = "--reason is needed: it is told to the holder, and recorded"
	wordsPickOne     = "give either files, --id or --all"
	wordsPathOrID    = "give either one file or --id"
	wordsTagAndID    = "--tag and --id exclude each other"
	wordsNoUser      = "--user is needed"
	wordsOnePath     = "give one path"
	wordsNoArguments = "this command takes no arguments"
	wordsOneFile     = "give one policy file at most"
)

func sayUnknownCommand(word string) string { return "unknown command " + strconv.Quote(word) }
func sayDidYouMean(command, word string) string {
	return "did you mean '" + command + " " + word + "'?"
}

func seeHelp(command string) []string {
	if command == "" {
		return nil
	}
	return []string{"see '" + command + " --help'"}
}

func sayDotDot(path string) string {
	return shown(path) + " goes through a symbolic link and up again; name the file itself"
}
func sayBadDuration(flag, value string) string {
	return "--" + flag + " " + strconv.Quote(value) + ": want a duration like 30s, 5m, 2h, or a number of seconds"
}
func sayBadWord(flag, value string, words ...string) string {
	return "--" + flag + " " + strconv.Quote(value) + ": want " + strings.Join(words, " or ")
}
func sayBadCode(n int) string { return "-E " + strconv.Itoa(n) + ": want 0 to 255" }
func sayBadTime(flag, value string) string {
	return "--" + flag + " " + strconv.Quote(value) + `: want RFC 3339, "2006-01-02", "2006-01-02 15:04", or a duration`
}
func sayBadSeq(value string) string { return "--seq " + strconv.Quote(value) + ": want N or N-M" }

// Hints.
const (
	hintBusy      = "wait with --timeout 30s, or see 'locker list --all'"
	hintHidden    = "wait with --timeout 30s" // a list would not say who it is either
	hintVersion   = "locker and lockerd are of different versions; compare 'locker version' with 'locker status'"
	hintUntrusted = "see 'ls -l' of the socket; give another one with --socket or $LOCKER_SOCKET"
	hintSudo      = "lockerd listens, but its socket is not open to you; ask its administrator for the group that may use it"
	hintStart     = "is lockerd running? Give its socket with --socket or $LOCKER_SOCKET if it listens elsewhere"
	hintAudit     = "the log is readable for root and group adm; give another place with --state-dir"
	hintNoLog     = "no lockerd keeps its log there; give another place with --state-dir"
)

// hintConversion completes lockerd's "release it first".
func hintConversion(path string) string {
	if path == "" {
		return "'locker unlock' does that"
	}
	return "'locker unlock " + shown(path) + "' does that"
}

// hintForeign says how to ask a lockerd that another user runs. sudo(8) keeps no $LOCKER_SOCKET.
func hintForeign(e *client.ForeignError) string {
	return fmt.Sprintf("if you trust that user, ask as that user: sudo -u '#%d' locker --socket %s ...", e.UID, shown(e.Socket))
}

func hintLink(path, real string) string {
	return shown(path) + " leads through a symbolic link, which locker does not follow; name the file itself: " + shown(real)
}

func hintsUnreachable(err error) []string {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return []string{hintSudo}
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return []string{hintStart}
	}
	return nil
}

// Refusals.

// sayRefusal words what lockerd refused.
func sayRefusal(e *client.Error) string {
	text := e.Text
	if text == "" {
		text = e.Code.String()
	}
	if e.Path == "" {
		return sentence(text)
	}
	return shown(e.Path) + ": " + sentence(text)
}

// sentences is sentence for a text of several lines, such as the faults of a policy file: split first, since a line break
// would be escaped. Only for texts in which lockerd alone breaks lines.
func sentences(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, sentence(line))
		}
	}
	return lines
}

// sentence shows a text of lockerd's own making, in which it has quoted what others wrote; so quotes are no reason
// to quote it again.
func sentence(text string) string {
	plain := strings.NewReplacer(`"`, "", `\`, "").Replace(text)
	if plain == "" || clean(plain) {
		return text
	}
	q := strconv.QuoteToASCII(text)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// sayBlockers says who is in the way, a line each.
func sayBlockers(e *client.Error) []string {
	var lines []string
	for _, b := range e.Blockers {
		path := b.Path
		if path == "" {
			path = e.Path
		}
		line := blockerWords(b, time.Now())
		if path != "" {
			line = shown(path) + " " + line
		} else {
			line = "it " + line
		}
		lines = append(lines, line)
	}
	return lines
}

// When and how long.

// clock says when, as briefly as is clear today.
func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

// lasting says how long, without parts that are zero or that nobody needs.
func lasting(d time.Duration) string {
	switch {
	case d >= time.Hour:
		d = d.Round(time.Minute)
	case d >= time.Second:
		d = d.Round(time.Second)
	default:
		return d.Round(time.Millisecond).String()
	}
	text := ""
	for _, unit := range []struct {
		name string
		span time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if n := d / unit.span; n > 0 {
			text += strconv.FormatInt(int64(n), 10) + unit.name
			d -= n * unit.span
		}
	}
	return text
}

// A command line of 2016.
const (
	oldLockSet   = "ok - lock set"
	oldAlready   = "ok - file already locked"
	oldReleased  = "ok - lock released"
	oldNotLocked = "ok - file is not locked"

	oldBoth     = "client and server exclude each other"
	oldNeither  = "either lock or unlock is needed"
	oldTwice    = "lock and unlock exclude each other"
	oldNoPath   = "path is needed"
	oldIgnored  = "the server does not lock or unlock: that flag does nothing"
	oldNoDaemon = "lockerd was found neither beside locker nor in the PATH, /usr/sbin or /usr/local/sbin"
	oldUsage    = `usage: locker [-client] [-socket SOCKET] -lock|-unlock -path PATH
       locker -server [-socket SOCKET] -allow PATH...
`
)

func oldUnknown(arg string) string { return "unknown flag or argument " + strconv.Quote(arg) }
func oldNoValue(flag string) string {
	return "flag -" + flag + " needs a value"
}
func oldBadBool(flag, value string) string {
	return fmt.Sprintf("flag -%s is true or false, not %q", flag, value)
}
