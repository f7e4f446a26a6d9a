package flock

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountLine is one line of /proc/self/mountinfo, as far as it matters here. proc_pid_mountinfo(5).
type mountLine struct {
	id      uint64
	dev     uint64 // of the superblock: what /proc/locks shows, and not always st_dev (btrfs, overlayfs)
	point   string // as seen from our root, escapes resolved; "…//deleted" if its directory is gone
	fstype  string
	fuseUID int64 // who mounted it (user_id=, which fusermount(1) sets and a user cannot forge); -1 if it does not say
}

// parseMountinfo is strict: what it does not understand might be the mount that hangs us.
func parseMountinfo(text []byte) ([]mountLine, error) {
	var lines []mountLine
	for n := 1; len(text) > 0; n++ {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		l, err := parseMountLine(string(line))
		if err != nil {
			return nil, fmt.Errorf("mountinfo line %d: %w", n, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMountLine(line string) (mountLine, error) {
	fields := strings.Split(line, " ")
	sep := 6 // the optional fields between the options and "-" are zero or more
	for sep < len(fields) && fields[sep] != "-" {
		sep++
	}
	if len(fields) < sep+3 { // the superblock's options may be missing when the source is empty
		return mountLine{}, fmt.Errorf("%q has too few fields", line)
	}
	l := mountLine{fuseUID: -1}
	var err error
	if l.id, err = strconv.ParseUint(fields[0], 10, 64); err != nil {
		return mountLine{}, err
	}
	if l.dev, err = parseDev(fields[2], 10); err != nil {
		return mountLine{}, err
	}
	if l.point, err = unescapeOctal(fields[4]); err != nil {
		return mountLine{}, err
	}
	if l.fstype, err = unescapeOctal(fields[sep+1]); err != nil {
		return mountLine{}, err
	}
	for _, option := range strings.Split(fields[len(fields)-1], ",") {
		uid, ok := strings.CutPrefix(option, "user_id=")
		if !ok {
			continue
		}
		if l.fuseUID, err = strconv.ParseInt(uid, 10, 64); err != nil || l.fuseUID < 0 {
			return mountLine{}, fmt.Errorf("bad option %q", option)
		}
		break // the first is the kernel's own
	}
	return l, nil
}

// parseDev reads major:minor: decimal in mountinfo, hexadecimal in /proc/locks.
func parseDev(s string, base int) (uint64, error) {
	left, right, _ := strings.Cut(s, ":")
	major, err := strconv.ParseUint(left, base, 32)
	if err != nil {
		return 0, err
	}
	minor, err := strconv.ParseUint(right, base, 32)
	if err != nil {
		return 0, err
	}
	return unix.Mkdev(uint32(major), uint32(minor)), nil
}

// unescapeOctal undoes the kernel's mangling: space, tab, newline, backslash and # appear as \ and three octal digits.
func unescapeOctal(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		if len(s) < i+4 {
			return "", fmt.Errorf("%q ends inside an escape", s)
		}
		b, err := strconv.ParseUint(s[i+1:i+4], 8, 8)
		if err != nil {
			return "", fmt.Errorf("%q has a bad escape", s)
		}
		out = append(out, byte(b))
		i += 3
	}
	return string(out), nil
}
