package broker

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"locker/flock"
)

// With a server that is down since before, lockerd is there soon, whatever is held on it; other servers' locks are claimed meanwhile.
func TestAServerThatDoesNotAnswerKeepsLockerdFromStartingForAMomentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &restoring{Broker: &Broker{times: theTimes}, silent: map[uint64]int{}}
		const down, up = 1, 2
		answers := make(chan struct{})
		var tried atomic.Int32
		began := time.Now()
		for range 3000 {
			f, text, err := x.within(down, func() (*flock.File, string, error) {
				tried.Add(1)
				<-answers
				return nil, "too late", nil
			})
			if f != nil || text != noAnswer || err != nil {
				t.Fatalf("got %v, %q, %v", f, text, err)
			}
		}
		if took, want := time.Since(began), networkPatiences*networkPatience+(networkSilent-networkPatiences)*networkMoment; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
		if n := tried.Load(); n != networkSilent {
			t.Errorf("%d hang", n)
		}
		if _, text, _ := x.within(up, func() (*flock.File, string, error) {
			<-time.After(networkMoment - 1)
			return nil, "as it is", nil
		}); text != "as it is" {
			t.Errorf("of a server that answers: %q", text)
		}
		for dev := range uint64(1000) {
			x.within(dev+10, func() (*flock.File, string, error) {
				tried.Add(1)
				<-answers
				return nil, "too late", nil
			})
		}
		if n := tried.Load(); n != networkSilentAll {
			t.Errorf("%d hang in all", n)
		}
		if took := time.Since(began); took >= 90*time.Second {
			t.Errorf("a start takes %v", took)
		}
		close(answers)
		x.work.Wait()
	})
}

// A server that does answer, and takes its time for each, keeps lockerd no longer.
func TestAServerThatIsSlowKeepsLockerdFromStartingNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &restoring{Broker: &Broker{times: theTimes}, silent: map[uint64]int{}}
		began, answered := time.Now(), 0
		for range networkSilent {
			if _, text, _ := x.within(1, func() (*flock.File, string, error) {
				<-time.After(networkPatience - 1)
				return nil, "as it is", nil
			}); text == "as it is" {
				answered++
			}
		}
		if took := time.Since(began); answered != networkPatiences+1 || took > (networkPatiences+1)*networkPatience+networkSilent*networkMoment {
			t.Errorf("%d answered in %v", answered, took)
		}
		x.work.Wait()
	})
}

// What is claimed after it was given up is let go of.
func TestALockThatComesTooLateIsNotKept(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("late")
	opener := r.b.rules.Load().opener
	x := &restoring{Broker: r.b, silent: map[uint64]int{}}
	x.times.server = time.Millisecond
	answers, locked := make(chan struct{}), make(chan error, 1)
	if f, text, _ := x.within(1, func() (*flock.File, string, error) {
		<-answers
		f, err := opener.Open(path, flock.Want{Mode: flock.Exclusive})
		if err == nil {
			err = f.TryLock(flock.Exclusive)
		}
		locked <- err
		return f, "", err
	}); f != nil || text != noAnswer {
		t.Fatalf("got %v, %q", f, text)
	}
	close(answers)
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	eventually(t, "its descriptor is closed", func() bool {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if to, _ := os.Readlink(fmt.Sprint("/proc/self/fd/", n.Name())); to == path {
				return false
			}
		}
		return true
	})
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("it is held: %v", err)
	}
}
