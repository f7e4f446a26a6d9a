package flock

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newWaiter checks, when the test ends, that nothing of it is left.
func newWaiter(t testing.TB) *Waiter {
	t.Helper()
	newOpener(t) // opens /proc/self/fd for good
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	w, err := NewWaiter()
	must(t, err)
	t.Cleanup(func() {
		must(t, w.Close())
		if len(w.watches) != 0 {
			t.Errorf("%d inodes are still watched", len(w.watches))
		}
		eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
		sameDescriptors(t, fds)
	})
	return w
}

// onHintsAlone takes the net away: what wakes then is a hint.
func onHintsAlone(w *Waiter) *Waiter {
	w.net = time.Hour
	return w
}

func (w *Waiter) watched() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.watches)
}

// held is a file that an outsider holds with kind, and our descriptor of it.
func held(t testing.TB, kind string) (*File, *outsider) {
	t.Helper()
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	must(t, f.TryLock(Exclusive)) // the self-test closes a descriptor of the file: not while hints are counted
	must(t, f.Unlock())
	p := newOutsider(t)
	p.does("open", "rw", path)
	p.does(kind, "exclusive")
	return f, p
}

// waiting starts a Wait for f; tried has a value for each try that failed.
func waiting(ctx context.Context, w *Waiter, f *File) (tried chan error, done chan error) {
	tried, done = make(chan error, 1<<16), make(chan error, 1)
	go func() {
		done <- w.Wait(ctx, f, func() bool {
			err := f.TryLock(Exclusive)
			tried <- err
			return err == nil
		})
	}()
	return tried, done
}

// wakesByItself has a scene played, at whose end a wait is to end by the hint that it gives. The hint comes before the kernel lets go of the
// lock, by as long as whoever closes is kept off his processor: where that is longer than secondLook the wait is left to the net, which
// is not there. So it may be played three times; a close of ours ends a wait that its own hint has not ended.
func wakesByItself(t testing.TB, scene func() (*Waiter, *File, chan error)) (*File, *Waiter) {
	t.Helper()
	for range 3 {
		w, f, done := scene()
		select {
		case err := <-done:
			must(t, err)
			return f, w
		case <-time.After(10 * time.Second):
		}
		eventually(t, "a close of ours wakes it", func() bool {
			fd, err := unix.Open(f.Path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			select {
			case err := <-done:
				must(t, err)
				return true
			case <-time.After(time.Second):
				return false
			}
		})
		must(t, f.Unlock())
	}
	t.Fatal("three times the hint has not woken it")
	return nil, nil
}

func TestCloseOfTheHolderWakesWithoutTheNet(t *testing.T) {
	for _, kind := range []string{"flock", "ofd", "posix"} {
		f, w := wakesByItself(t, func() (*Waiter, *File, chan error) {
			w := onHintsAlone(newWaiter(t))
			f, p := held(t, kind)
			tried, done := waiting(t.Context(), w, f)
			wantError(t, <-tried, ErrBusy, kind)
			p.does("close")
			return w, f, done
		})
		must(t, f.Unlock())
		if n := w.watched(); n != 0 {
			t.Errorf("%s: %d inodes are watched after Wait", kind, n)
		}
	}
}

func TestDeathOfTheHolderWakesWithoutTheNet(t *testing.T) {
	wakesByItself(t, func() (*Waiter, *File, chan error) {
		w := onHintsAlone(newWaiter(t))
		f, p := held(t, "ofd")
		tried, done := waiting(t.Context(), w, f)
		wantError(t, <-tried, ErrBusy, "try")
		must(t, p.cmd.Process.Kill())
		return w, f, done
	})
}

// An unlock without a close gives no hint.
func TestUnlockOfTheHolderIsFoundByTheNet(t *testing.T) {
	w := newWaiter(t)
	f, p := held(t, "flock")
	tried, done := waiting(t.Context(), w, f)
	wantError(t, <-tried, ErrBusy, "try")
	p.does("unflock")
	must(t, <-done)
}

func TestReplacedFileWakesWithoutTheNet(t *testing.T) {
	for name, do := range map[string]func(path string) error{
		"unlinked": os.Remove,
		"renamed":  func(path string) error { return os.Rename(path, path+"2") },
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+"2", nil, 0o600), os.Rename(path+"2", path))
		},
	} {
		w := onHintsAlone(newWaiter(t))
		f, _ := held(t, "flock")
		tried, done := make(chan bool, 100), make(chan error, 1)
		o := newOpener(t, f.Path)
		go func() {
			done <- w.Wait(t.Context(), f, func() bool {
				same, err := o.Same(f)
				tried <- same
				return err == nil && !same
			})
		}()
		if !<-tried {
			t.Fatalf("%s: replaced too early", name)
		}
		must(t, do(f.Path))
		must(t, <-done)
	}
}

func TestCancelEndsAWaitWithoutATry(t *testing.T) {
	w := onHintsAlone(newWaiter(t))
	f, _ := held(t, "flock")
	ctx, cancel := context.WithCancelCause(t.Context())
	tried, done := waiting(ctx, w, f)
	<-tried
	cancel(errors.New("client went away"))
	wantError(t, <-done, context.Canceled, "wait")
	if err := w.Wait(ctx, f, func() bool { t.Error("tried although canceled"); return true }); err != context.Canceled {
		t.Errorf("wait with an ended context: %v", err)
	}
}

func TestCloseEndsAllWaits(t *testing.T) {
	w := onHintsAlone(newWaiter(t))
	var waits sync.WaitGroup
	tried := make(chan bool)
	for range 10 {
		f, _ := held(t, "flock")
		waits.Go(func() {
			err := w.Wait(context.Background(), f, func() bool { tried <- true; return false })
			wantError(t, err, os.ErrClosed, "wait")
		})
		<-tried
	}
	must(t, w.Close())
	waits.Wait()
	must(t, w.Close())
	f, _ := held(t, "flock")
	calls := 0
	wantError(t, w.Wait(t.Context(), f, func() bool { calls++; return false }), os.ErrClosed, "wait after Close")
	if calls > 1 {
		t.Errorf("%d tries after Close", calls)
	}
}

func TestWithoutAFileTheNetTries(t *testing.T) {
	w := newWaiter(t)
	tries := 0
	must(t, w.Wait(t.Context(), nil, func() bool { tries++; return tries == 3 }))
	must(t, w.Wait(t.Context(), &File{Network: true, mount: &mount{}, fd: 0}, func() bool { tries++; return tries == 6 }))
	if w.watched() != 0 {
		t.Error("something is watched")
	}
}
