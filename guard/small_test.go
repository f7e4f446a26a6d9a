package guard

import (
	"os"
	"os/signal"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// ignoreSIGIO is for who takes leases: the signal that one is to be given back would end the process. fcntl(2)
func ignoreSIGIO(t testing.TB) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGIO)
	t.Cleanup(func() { signal.Stop(c) })
}
