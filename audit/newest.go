package audit

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The lock file says who has the log and which segment he began last: "4711 seg-00000000000000000012.jsonl\n". So a
// segment that was deleted while no lockerd ran is missed: without that the numbers in it would be given again, and
// what it recorded would count as never answered. What follows the newline is of longer lines before.

// note writes it. Best effort: a disk that is full or fails must not keep lockerd from starting, and after a power
// cut an older name tells nothing.
func (d *dir) note(pid int, newest string) {
	text := strconv.AppendInt(nil, int64(pid), 10)
	text = append(append(append(text, ' '), newest...), '\n')
	_, _ = unix.Pwrite(d.lock, text, 0)
}

// noted reads it, from the lock file open as fd. pid 0, newest "": it does not say.
func noted(fd int) (pid int, newest string) {
	buf := make([]byte, 64)
	n, _ := unix.Pread(fd, buf, 0)
	line, _, _ := bytes.Cut(buf[:max(n, 0)], []byte("\n"))
	first, name, _ := strings.Cut(string(line), " ")
	pid, err := strconv.Atoi(first)
	if err != nil || pid < 0 {
		pid = 0
	}
	if _, ok := segFirst(name); !ok {
		name = ""
	}
	return pid, name
}

// missing returns the segment that was written last, if it is not there: newer than the newest of names.
func (d *dir) missing(names []string) string {
	if len(names) > 0 && names[len(names)-1] >= d.newest { // names sort as their numbers do
		return ""
	}
	return d.newest
}
