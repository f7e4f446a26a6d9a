package main

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// The words of 'locker doctor': the rest of words.go.

const (
	wordsDoctor     = "say what a lock on a path is worth on this machine"
	wordsDoctorLong = `Say what a lock on a path is worth here: which locks its file system keeps, and which file servers they keep out.

Looks at the file system of each PATH and tries the locks on a scratch file of its own beside it (removed at once; nothing of
anybody's is locked or opened); at Samba's effective settings (testparm), netatalk's volumes, lockerd, and the kernel.
Without PATH: the machine, and all Samba shares. With root's rights it sees more.

Exit code 0 if everything and everybody asked about is kept out and nothing is amiss, 1 if not or if it cannot be told;
other failures as elsewhere.

"kept out" means that a Mac or another client cannot open the file. Deleting and renaming are never prevented by a lock (only
netatalk refuses to delete), and a Samba open that truncates empties the file even when it is then refused. What smb.conf
includes for single clients (include = ...%m), and usershares, testparm does not show.

With --json, one object: paths[] (path, real, kind, target, engines, file_system, self_test), samba (running, testparm, error,
shares[]), netatalk (running, afpd, config, error, volumes[]), lockerd, guard, kernel, verdicts[] (path, server, name, kept_out:
yes|partly|no|unknown, why, gets_through[]), problems[], fine. Fields are only ever added. gets_through is what clients of a file server
can do all the same: open, read, write, lock (a range of bytes), oplock (read and write with an oplock), truncate, delete, rename,
bands (all that, with the other files of a bundle); all of it where it cannot be told.`
)

// Why somebody is kept out, or not.
const (
	whyOnlyGuard = "only with guard"
	whyGuard     = "by the guard"
	whyGuardTM   = "by the guard, as to bundles"
	whyGuardDown = "lockerd's guard is not there, or cannot: file servers that the policy denies are not kept from held bundles; " + logSaysWhy
	helpFruit    = ", or set fruit:locking = netatalk"
	helpNoFruit  = ", or set vfs objects = fruit streams_xattr and fruit:locking = netatalk"

	whyForced      = "fruit:time machine = yes switches posix locking off"
	whyLax         = "strict locking = no: only byte-range locks are refused"
	whyOpens       = "opens succeed, reads and writes are refused; guard keeps it out"
	whyAuto        = "opens succeed, reads and writes are refused unless the client has an oplock or lease (strict locking = auto); guard keeps it out"
	byToken        = "by its token"
	whyBands       = "bands that are opened without the token are kept only by guard"
	whyUnavailable = "available = no: it is not served"
	whyNoTestparm  = "smbd is running, and testparm was not found to tell its shares"

	whyKind       = "neither a regular file nor a directory: it cannot be locked"
	whyTokenKind  = "its token is no regular file: it cannot be locked"
	whyDirectory  = "a directory itself has a flock lock alone; what is said here is about the files in it"
	whyFlockAlone = "a flock lock alone, which file servers do not see"
	whyReadOnly   = "the file system is read-only: a flock lock alone, which file servers do not see"
	whyFixed      = "the file is immutable or append-only: a flock lock alone, which file servers do not see"
	whyExecutable = "it has an execute bit: a flock lock alone, which file servers do not see"
	whyOFDOnly    = "on network file systems and FUSE an ofd lock alone: there the two kinds may collide"
	whyLinks      = "it has several names: only a rule with hardlinks = true lets it be locked"

	whyTwice      = "a second open gets the same ofd lock"
	whyNotClassic = "netatalk's and Samba's locks do not see the ofd lock"
	whyUntested   = "the self-test could not be made there"
	whySilent     = "the file system does not answer"

	whyNobrl   = "nobrl: locks stay on this machine"
	whyOverlay = "overlayfs: users of the upper or lower directory are not kept out by a lock through the merged path"
	whyFUSE    = "FUSE: whether users of what lies behind it are kept out is up to its program; bindfs for one keeps locks to itself"
	whyNetwork = "whether locks reach the other machines cannot be told from here"
	whyNoOFD   = "the kernel has no OFD locks (Linux 3.15)"
)

// because adds the reason for what helps.
func because(help, why string) string {
	if why == "" {
		return help
	}
	return help + " (" + why + ")"
}

// join puts two facts together.
func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + "; " + b
}

func sayForeign(uid string) string {
	return "a FUSE mount of uid " + shown(uid) + ": not looked at, since it may never answer"
}
func sayKernels(fstype string) string {
	return "a " + shown(fstype) + " file system: nothing is locked there"
}
func sayNoToken(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "a sparsebundle without its token: it cannot be locked"
	}
	return "its token cannot be looked at: " + sentence(err.Error())
}
func sayLocalLock(option string) string { return option + ": locks stay on this machine" }
func sayFails(err error) string         { return "an ofd lock fails: " + sentence(err.Error()) }
func sayPastKernel(object string) string {
	return "its vfs object " + shown(object) + " goes past this machine's kernel and its locks; guard does not see it either"
}
func sayFruitLocks(value string) string {
	return "fruit:locking = " + shown(value) + " is unknown to Samba, which refuses the share then"
}
func sayTestparm(err error) string { return "testparm: " + shownText(err.Error()) }
func sayLeft(path string) string   { return "the scratch file " + shown(path) + " could not be removed" }
func sayCheckFailed(err error) string {
	return "lockerd --check: " + shownText(err.Error()) + "; see 'locker policy check'"
}
func sayUntested(err error) string {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "not done: the directory is not writable for us"
	case errors.Is(err, unix.EROFS):
		return "not done: the file system is read-only"
	}
	return "not done: " + shownText(err.Error())
}
func sayProbeBad(engine string, p probe) string {
	if p.outcome == outcomeTwice {
		return "two opens of one file get the same " + engine + " lock"
	}
	return "a lock of kind " + engine + " fails: " + sentence(p.err.Error())
}

// sayGuardedElse is for somebody's bundles and his other files, to which the guard is no help.
func sayGuardedElse(why string) string {
	return "bundles by the guard; else: " + strings.NewReplacer(whyOnlyGuard+", or ", "", whyOnlyGuard, "no", "; guard keeps it out, or ", "; ").Replace(why)
}

// sayUnguardable is for a file that no guard guards.
func sayUnguardable(why string) string {
	return strings.NewReplacer(whyOnlyGuard+", or ", "", "; guard keeps it out, or ", "; ").Replace(why)
}

// shownText shows a sentence that others may have a part in, without quotes where it needs none.
func shownText(s string) string { return sentence(strings.ToValidUTF8(s, "?")) }

// sayVerdict is the line of a verdict: "keeps Samba share tm out: yes".
func sayVerdict(v verdictOn) string {
	line := "keeps " + sayServer(v) + " out: " + v.kept.String()
	if v.why != "" {
		line += ": " + v.why
	}
	return line
}

func sayServer(v verdictOn) string {
	switch v.server {
	case "samba":
		if v.name == "" {
			return "Samba"
		}
		return "Samba share " + shown(v.name)
	case "netatalk":
		if v.name == "" {
			return "netatalk"
		}
		return "netatalk volume " + shown(v.name)
	}
	return "other users of the " + shown(v.server) + " file system"
}
