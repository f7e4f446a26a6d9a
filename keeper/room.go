package keeper

import (
	"golang.org/x/sys/unix"
)

// reserve is how many descriptors are for anything but entries: the process's own, a message's that is coming, and half of it for
// what is dropped and not yet closed.
const reserve = 64

// descriptorsForEntries is how many descriptors entries may have. RLIMIT_NOFILE, getrlimit(2). It is asked anew each time: prlimit(2)
// changes it from outside.
func descriptorsForEntries() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return max(0, int(min(limit.Cur, 1<<30))-reserve)
}
