package guard

import (
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// left is what the timer has left; 0: it is not armed. timer_gettime(2)
func (d *deadman) left(t testing.TB) time.Duration {
	t.Helper()
	var spec [2]unix.Timespec
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_GETTIME, uintptr(d.id), uintptr(unsafe.Pointer(&spec)), 0); errno != 0 {
		t.Fatal(errno)
	}
	return time.Duration(spec[1].Nano())
}

// The timer runs while something is guarded, is put off at each look, and rests else.
func TestTheDeadmanIsPutOffAtEachLookAndRestsWithoutAGroup(t *testing.T) {
	needGuard(t)
	dead, err := newDeadman(time.Hour)
	must(t, err)
	defer dead.close()
	type look struct {
		at   time.Time
		left time.Duration
	}
	seen := make(chan look)
	stop := make(chan struct{})
	s := &Server{spared: true, patience: time.Hour, interval: time.Millisecond, watching: func() {
		left := dead.left(t) // and then the time: what comes between makes the test lenient
		select {
		case seen <- look{time.Now(), left}:
		case <-stop:
		}
	}}
	broker, end := ends(t)
	served := make(chan struct{})
	go func() {
		s.serve(t.Context(), end, dead)
		close(served)
	}()
	c, err := newConn(broker, 0)
	must(t, err)
	must(t, c.Deny(soonContext(t), []string{"/usr/sbin/smbd"}))
	if left := dead.left(t); left != 0 {
		t.Errorf("without a group: %v left", left)
	}
	b := newBundle(t, 1)
	b.guard(c, 1)
	before := <-seen
	for range 10 {
		now := <-seen
		// It was put off after the look before.
		if least := time.Hour - now.at.Sub(before.at); now.left < least-time.Millisecond || now.left > time.Hour {
			t.Errorf("%v left, want at least %v", now.left, least)
		}
		time.Sleep(2 * time.Millisecond) // that the looks are more than a millisecond apart, which the clocks may differ by
		before = now
	}
	close(stop)
	lift(t, c, 1)
	if left := dead.left(t); left != 0 {
		t.Errorf("after the lift: %v left", left)
	}
	b.guard(c, 1)
	must(t, c.Close())
	<-served
	if left := dead.left(t); left != 0 {
		t.Errorf("after the end: %v left", left)
	}
}

// Not only from the first look on.
func TestTheDeadmanIsArmedBeforeAnybodyCanWait(t *testing.T) {
	needGuard(t)
	dead, err := newDeadman(time.Hour)
	must(t, err)
	defer dead.close()
	s := &Server{spared: true, patience: time.Hour, interval: time.Hour}
	b := &session{s: s, dead: dead, held: newHeld()}
	must(t, b.open())
	if left := dead.left(t); left == 0 {
		t.Error("there is a group, and the timer rests")
	}
	b.letGo()
	if left := dead.left(t); left != 0 {
		t.Errorf("there is no group, and %v left", left)
	}
}
