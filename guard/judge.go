package guard

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// deleted is what the kernel puts behind the name of a file that has none any more. proc(5)
const deleted = " (deleted)"

// judge knows who is refused. It does not change.
type judge struct {
	self int32
	deny map[string]bool // executables, as /proc/PID/exe shows them
}

func newJudge(paths []string) *judge {
	j := &judge{self: int32(os.Getpid()), deny: map[string]bool{}}
	for _, path := range paths {
		j.deny[path] = true
	}
	return j
}

// refuses gives the executable of a process that is to be refused, and "" for every other: who cannot be told, passes.
//
// Privileged: reads the executable's name of any process (CAP_SYS_PTRACE). Who runs a program chooses its name, by a mount
// namespace of his own even that of a file server, and is refused then; a file server can only be told by its name as long as
// nobody but root may say where it is run from.
func (j *judge) refuses(pid int32) string {
	if pid <= 0 || pid == j.self { // 0: in a pid namespace that is not below ours. pid_namespaces(7)
		return ""
	}
	var buf [maxPath + len(deleted) + 1]byte
	n, err := unix.Readlink("/proc/"+strconv.Itoa(int(pid))+"/exe", buf[:])
	if err != nil || n == len(buf) { // a thread of the kernel's has none (ENOENT); or it was cut
		return ""
	}
	name := string(buf[:n])
	if j.deny[name] {
		return name
	}
	// A package upgrade replaces the file of a server that goes on running.
	if name, cut := strings.CutSuffix(name, deleted); cut && j.deny[name] {
		return name
	}
	return ""
}

// seen is what is known of a file that somebody was refused.
type seen struct {
	exe string
	pid int32
	place
	name string // its path for the kernel, by which its directory is guessed
}

// look describes the file of an event.
//
// Privileged: asks for an open file's name, which the owner of the bundle chose; it is never opened, only compared, see which.
func look(e event, exe string) seen {
	s := seen{exe: exe, pid: e.pid}
	var st unix.Stat_t
	if unix.Fstat(e.file, &st) == nil {
		s.place = placeOf(&st)
	}
	s.name, _ = nameOf(e.file)
	return s
}

// nameOf is the path of an open file.
//
// Privileged: reads a link in /proc, of a descriptor of our own.
func nameOf(fd int) (string, error) {
	var buf [2 * maxPath]byte
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), buf[:])
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
