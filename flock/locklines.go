package flock

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockLine is one lock in /proc/locks or, after "lock:\t", in /proc/PID/fdinfo/N. proc_locks(5), proc_pid_fdinfo(5).
type lockLine struct {
	kind string // "FLOCK", "POSIX", "OFDLCK", "LEASE", "DELEG"
	mode Mode
	pid  int32  // who took it, and may be gone while a copy of the descriptor lives; -1 for OFD locks
	dev  uint64 // of the superblock
	ino  uint64
}

// parseLockLine reads "1: FLOCK  ADVISORY  WRITE 708 00:13:7970 0 EOF". Not ok: a claim that waits ("1: -> …"), which holds
// nothing, or a line that the kernel does not write.
func parseLockLine(line string) (l lockLine, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || !strings.HasSuffix(f[0], ":") || f[1] == "->" {
		return l, false
	}
	l.kind = f[1]
	switch {
	case f[3] == "WRITE":
		l.mode = Exclusive
	case f[3] == "READ":
		l.mode = Shared
	case f[3] == "UNLCK" && f[1] == "LEASE" && f[2] == "BREAKING": // by our open: still held
		l.mode = Exclusive
	default:
		return l, false
	}
	pid, err := strconv.ParseInt(f[4], 10, 32)
	if err != nil || pid < -1 {
		return l, false
	}
	l.pid = int32(pid)
	colon := strings.LastIndexByte(f[5], ':')
	if colon < 0 {
		return l, false
	}
	if l.dev, err = parseDev(f[5][:colon], 16); err != nil {
		return l, false
	}
	if l.ino, err = strconv.ParseUint(f[5][colon+1:], 10, 64); err != nil {
		return l, false
	}
	return l, true
}

// engine is the word for people; "" for kinds that keep nobody out.
func (l *lockLine) engine() string {
	switch l.kind {
	case "OFDLCK":
		return "ofd"
	case "FLOCK":
		return "flock"
	case "POSIX":
		return "posix"
	case "LEASE":
		return "lease"
	}
	return ""
}

// linesOfInode parses the lines about inode ino, on whatever device.
func linesOfInode(text []byte, ino uint64) []lockLine {
	needle := strconv.AppendUint([]byte(":"), ino, 10)
	needle = append(needle, ' ')
	var out []lockLine
	for {
		at := bytes.Index(text, needle)
		if at < 0 {
			return out
		}
		start := bytes.LastIndexByte(text[:at], '\n') + 1
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			end = len(text) - at
		}
		if l, ok := parseLockLine(string(text[start : at+end])); ok && l.ino == ino && l.engine() != "" {
			out = append(out, l)
		}
		text = text[at+end:]
	}
}

// parseFdinfo returns the locks that a descriptor has. Its other lines are skipped: drivers write what they like there.
func parseFdinfo(text []byte) []lockLine {
	var out []lockLine
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		if rest, found := bytes.CutPrefix(line, []byte("lock:\t")); found {
			if l, ok := parseLockLine(string(rest)); ok && l.engine() != "" {
				out = append(out, l)
			}
		}
	}
	return out
}

// isOpen says whether a descriptor is an open of inode ino, on whatever device, for data, and for writing: O_PATH is none. The number
// is there since Linux 5.14. proc_pid_fdinfo(5)
func isOpen(text []byte, ino uint64) (writes, opens bool) {
	flags, haveFlags := fdinfoNumber(text, "flags:\t", 8)
	n, haveIno := fdinfoNumber(text, "ino:\t", 10)
	if !haveFlags || !haveIno || n != ino || flags&unix.O_PATH != 0 {
		return false, false
	}
	return flags&unix.O_ACCMODE != unix.O_RDONLY, true
}

func fdinfoNumber(text []byte, name string, base int) (uint64, bool) {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		if rest, found := bytes.CutPrefix(line, []byte(name)); found {
			n, err := strconv.ParseUint(string(rest), base, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// parseStatusUID finds the effective uid in /proc/PID/status. The process chooses its name, in the first line, but the
// kernel escapes newlines there. proc_pid_status(5)
func parseStatusUID(text []byte) (uint32, bool) {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		if rest, found := bytes.CutPrefix(line, []byte("Uid:\t")); found {
			f := strings.Fields(string(rest))
			if len(f) != 4 {
				return 0, false
			}
			uid, err := strconv.ParseUint(f[1], 10, 32)
			return uint32(uid), err == nil
		}
	}
	return 0, false
}
