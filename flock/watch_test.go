package flock

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOneInodeIsWatchedOnceForManyWaits(t *testing.T) {
	w := onHintsAlone(newWaiter(t))
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	p := newOutsider(t)
	p.does("open", "rw", path)
	const waits = 20
	woken := make(chan int, waits*hintsPerPoll)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range waits {
		f := open(t, o, path)
		started := make(chan bool, 1)
		all.Go(func() {
			first := true
			w.Wait(ctx, f, func() bool {
				if first {
					first = false
					started <- true
				} else {
					woken <- i
				}
				return false
			})
		})
		<-started
	}
	if n := w.watched(); n != 1 {
		t.Errorf("%d inodes are watched, want 1", n)
	}
	p.does("close")
	for seen := make(map[int]bool); len(seen) < waits; {
		seen[<-woken] = true
	}
	cancel()
	all.Wait()
}

func TestLostEventsWakeEverybody(t *testing.T) {
	w := onHintsAlone(newWaiter(t))
	ctx, cancel := context.WithCancel(t.Context())
	var tries []chan error
	var dones []chan error
	for range 5 {
		f, _ := held(t, "flock")
		tried, done := waiting(ctx, w, f)
		<-tried
		tries, dones = append(tries, tried), append(dones, done)
	}
	var event bytes.Buffer
	for _, word := range []uint32{0xffffffff /* -1 */, unix.IN_Q_OVERFLOW, 0, 0} {
		must(t, binary.Write(&event, binary.NativeEndian, word))
	}
	w.deliver(event.Bytes())
	for _, tried := range tries {
		<-tried
	}
	cancel()
	for _, done := range dones {
		<-done
	}
}

func TestStormOfClosesDoesNotKeepUsBusy(t *testing.T) {
	w := newWaiter(t)
	w.net = 2 * time.Second // a poll's share of hints is to come within one, on a busy machine too
	f, p := held(t, "flock")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tried, done := waiting(ctx, w, f)
	<-tried
	closes, tries, began := 0, 0, time.Now()
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	storm := func(until int) { // as fast as it is noticed: what is not makes no work
		for w.watched() != until {
			if time.Since(began) > time.Minute {
				t.Fatalf("%d inodes are watched after %d closes", w.watched(), closes)
			}
			fd, err := unix.Open(f.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			must(t, err)
			unix.Close(fd)
			closes++
			select {
			case <-tried:
				tries++
			case <-pause.C:
			}
		}
	}
	storm(0)                                              // it is cut off
	storm(1)                                              // and watched again at the next poll
	storm(0)                                              // and cut off again
	shares := int(time.Since(began)/(w.net-w.net/10)) + 2 // the one that began before, and one more that may
	tries += len(tried)
	// Each hint of a poll's share is followed by at most one second look.
	if most := shares * (2*(hintsPerPoll+1) + 1); tries > most {
		t.Errorf("%d tries in the shares of %d polls, at most %d should be", tries, shares, most)
	}
	t.Logf("%d closes, %d tries, %d shares", closes, tries, shares)
	p.does("close")
	must(t, <-done)
}

func TestNetBacksOffAndIsNotInStep(t *testing.T) {
	intervals := map[time.Duration]bool{}
	for range 100 {
		d := jitter(netStart)
		if d < netStart*9/10 || d >= netStart*11/10 {
			t.Fatalf("%v is not within a tenth of %v", d, netStart)
		}
		intervals[d] = true
	}
	if len(intervals) < 10 {
		t.Errorf("only %d different intervals", len(intervals))
	}
	for interval := netStart; interval != netLongest; interval = longer(interval) {
		if next := longer(interval); next <= interval || next > netLongest {
			t.Fatalf("after %v comes %v", interval, next)
		}
	}
}

const noWatchesEnv = "LOCKER_TEST_NO_WATCHES"

// Watches are counted in each user namespace, so one of our own can have none.
func TestUsedUpWatchesLeaveTheNet(t *testing.T) {
	if os.Getenv(noWatchesEnv) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestUsedUpWatchesLeaveTheNet$", "-test.v")
		cmd.Env = append(os.Environ(), noWatchesEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Skipf("no user namespaces here: %v", err)
		}
		if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	must(t, os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("0"), 0))
	w := newWaiter(t)
	f, p := held(t, "flock")
	tried, done := waiting(t.Context(), w, f)
	<-tried
	if w.watched() != 0 {
		t.Error("the limit does not bite")
	}
	p.does("close")
	must(t, <-done)
}
