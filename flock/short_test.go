package flock

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// However many descriptors are left, an Open that needs more says so: a file of which nobody has a lease is not "in use", and one
// that may have lost its name meanwhile is not opened.
func TestAnOpenThatRunsOutOfDescriptorsSaysSo(t *testing.T) {
	const poor = "LOCKER_FLOCK_POOR"
	if os.Getenv(poor) == "" { // in a process of its own: others of ours want descriptors meanwhile
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), poor+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	o := newOpener(t, dir)
	newFile(t, dir+"/old")
	if _, err := o.Open(dir+"/old", Want{Mode: Exclusive}); err != nil { // what is opened once is opened by now
		t.Fatal(err)
	}
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}))
	var fillers []int
	fill := func() bool {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			fillers = append(fillers, fd)
		}
		return err == nil
	}
	leave := func() { // one more
		must(t, unix.Close(fillers[len(fillers)-1]))
		fillers = fillers[:len(fillers)-1]
	}
	for fill() {
	}
	need := 0
	for left := 0; need == 0 && left < 10; left++ {
		leave()
		path := newFile(t, dir+"/new") // its ctime is young
		fill()
		f, err := o.Open(path, Want{Mode: Exclusive})
		switch {
		case err == nil:
			need = left
			f.Close()
		case !errors.Is(err, unix.EMFILE):
			t.Errorf("with %d descriptors left: %v", left, err)
		}
		leave()
	}
	if need < 2 {
		t.Errorf("it needs %d descriptors: nothing was tried", need)
	}
}
