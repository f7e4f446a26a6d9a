package broker

import (
	"bytes"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
)

// maxCommand bounds what is read of a peer's command line, in bytes. A command line may be 2 MiB.
const maxCommand = 200

// who is a peer with the names that records and lists show. Identity is peer's alone; the rest comes from /proc and
// the user database, is for people to read, and decides nothing.
type who struct {
	peer     authz.Peer
	user     string
	login    uint32 // audit login uid: who logged in before any su or sudo
	hasLogin bool
	start    uint64 // start time of the process, clock ticks since boot
	command  string // bytes of the client's choosing: always shown escaped
	restored bool   // taken back from the log: the supplementary groups are not known
}

// describe looks the peer's names up. If the process is gone by then, its pid may be somebody else's: nothing is
// taken from /proc.
//
// Without a pidfd (before Linux 6.5) nobody can tell. Then the start time is taken all the same, and nothing that is shown: it is how
// the process is known again after a restart, where the uid must be the same as well.
func describe(p authz.Peer, policy *authz.Policy) *who {
	w := &who{peer: p, user: policy.Name(p.UID)}
	start, _ := startTime(procFile(p.PID, "stat", 1024))
	if p.PidFD < 0 {
		w.start = start
		return w
	}
	command := readCommand(p.PID)
	login, err := strconv.ParseUint(string(bytes.TrimSpace(procFile(p.PID, "loginuid", 16))), 10, 32)
	// A pidfd is readable once its process is dead: only while it is not, the pid was still the peer's. pidfd_open(2).
	if dead(p.PidFD) {
		return w
	}
	w.command, w.start = command, start
	if err == nil && login != 1<<32-1 { // 4294967295: never logged in
		w.login, w.hasLogin = uint32(login), true
	}
	return w
}

// sameAsThen opens the process that had this pid and start time, -1 if it is dead: a pid is used again, but not with a start time
// of the past. An error: it cannot be found out now. To be asked of a pid of this boot only. pidfd_open(2)
func sameAsThen(pid int32, start uint64) (pidfd int, err error) {
	if pid <= 0 || start == 0 {
		return -1, nil
	}
	fd, err := unix.PidfdOpen(int(pid), 0)
	if isShortage(err) {
		return -1, err
	}
	if err != nil {
		return -1, nil
	}
	unix.CloseOnExec(fd)
	// In this order: as long as the process of fd is not dead, what proc says of the pid is about it.
	now, ok := startTime(procFile(pid, "stat", 1024))
	switch {
	case dead(fd):
	case !ok:
		err = errors.New("proc does not tell when a process was started")
	case now == start:
		return fd, nil
	}
	unix.Close(fd)
	return -1, err
}

func dead(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return err != nil || n > 0
	}
}

// readCommand gives the command line, words separated by spaces, or the short name of a process without one.
func readCommand(pid int32) string {
	line := bytes.TrimRight(procFile(pid, "cmdline", maxCommand), "\x00")
	if len(line) == 0 {
		return string(bytes.TrimRight(procFile(pid, "comm", 32), "\n"))
	}
	return string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
}

// startTime takes field 22 of /proc/PID/stat. The second field holds the process's name in brackets, and a name
// may itself hold brackets, spaces and newlines: count after the last ")". proc(5).
func startTime(stat []byte) (uint64, bool) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, false
	}
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 20 {
		return 0, false
	}
	t, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return t, err == nil
}

// procFile reads at most max bytes of /proc/PID/name; nil if it cannot.
//
// Privileged: reads /proc as root. The attacker controls the content, not the name.
func procFile(pid int32, name string, max int) []byte {
	f, err := os.Open("/proc/" + strconv.Itoa(int(pid)) + "/" + name)
	if err != nil {
		return nil
	}
	defer f.Close()
	buf := make([]byte, max)
	n, _ := f.Read(buf)
	return buf[:n]
}

// name is what people are told of who it is: not every uid has a name.
func (w *who) name() string {
	if w.user != "" {
		return w.user
	}
	return "uid " + strconv.FormatUint(uint64(w.peer.UID), 10)
}

// sign puts the peer into a record; of one that the kernel does not know, nothing.
func (w *who) sign(r *audit.Record) {
	if !w.peer.Known() {
		return
	}
	r.Peer = true
	r.UID, r.GID, r.User = w.peer.UID, w.peer.GID, w.user
	r.LoginUID, r.HasLogin = w.login, w.hasLogin
	r.PID, r.Start, r.Command = w.peer.PID, w.start, w.command
}
