package audit

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The lock file says who has the log, in its first 32 bytes, and then which segment he began last. So a segment that was
// deleted while no lockerd ran is missed: without that the numbers in it would be given again, and what it recorded
// would count as never answered. Whoever knows of the pid alone reads 32 bytes, and wrote no more.
const pidBytes = 32

// note writes it. Best effort: a disk that is full or fails must not keep lockerd from starting, and after a power
// cut an older name tells nothing.
func (d *dir) note(pid int, newest string) {
	_, _ = unix.Pwrite(d.lock, fmt.Appendf(nil, "%-*d\n%s\n", pidBytes-1, pid, newest), 0)
}

// noted reads it, from the lock file open as fd. pid 0, newest "": it does not say.
func noted(fd int) (pid int, newest string) {
	buf := make([]byte, 128)
	n, _ := unix.Pread(fd, buf, 0)
	buf = buf[:max(n, 0)]
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:min(len(buf), pidBytes)])))
	if err != nil || pid < 0 {
		pid = 0
	}
	name, _, _ := bytes.Cut(buf[min(len(buf), pidBytes):], []byte("\n"))
	if _, ok := segFirst(string(name)); !ok {
		return pid, ""
	}
	return pid, string(name)
}

// missing returns the segment that was written last, if it is not there: newer than the newest of names.
func (d *dir) missing(names []string) string {
	if len(names) > 0 && names[len(names)-1] >= d.newest { // names sort as their numbers do
		return ""
	}
	return d.newest
}
