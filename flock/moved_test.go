package flock

import (
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Who moves bands to mapped just as the two are opened has both names lead to one directory.
func TestADirectoryThatIsMovedWhileItIsOpenedIsWatchedOnce(t *testing.T) {
	dir := publicDir(t)
	path := bundle(t, dir, 0)
	o, h := newOpener(t, dir), newChanges(t)
	f := open(t, o, path)
	at, inside := o.bundleOf(f)
	twice, err := unix.Dup(inside[0])
	must(t, err)
	defer closeAll(append(inside, at, twice))
	must(t, h.enter(f, 1, func() bool { return true }, at, []int{inside[0], twice}))
	do(t, path, "touch x", "rm x")  // so that the count is odd when an event of the directory comes
	for i := range maxAlterations { // of different names: the kernel takes equal events in a row for one
		name := "bands/" + strconv.Itoa(i)
		do(t, path, "touch "+name, "rm "+name)
	}
	if got := h.settled(1); got.Count != maxAlterations || !got.Missed {
		t.Errorf("told %+v", got)
	}
	h.Unwatch(1)
	if n := h.kernelWatches(); n != 0 {
		t.Errorf("%d watches left", n)
	}
}
