package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"locker/client"
)

// waiting turns a signal that would end us into the end of a context, so that a request that waits is taken back
// properly, and a grant that crosses the signal is not left lying about.
type waiting struct {
	signals chan os.Signal
	cancel  chan struct{} // closed when a signal has come
	done    chan struct{} // closed by end
	sig     atomic.Int32
	work    sync.WaitGroup
}

// endings gives the signals that end a program and are for us to heed.
func endings() []os.Signal { return append([]os.Signal{syscall.SIGTERM}, ignorable()...) }

// ignorable gives those of the terminal's signals that we were not started to ignore (nohup(1), a shell's "&"): catching
// one of them would end the ignoring.
func ignorable() []os.Signal {
	return slices.DeleteFunc([]os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT}, signal.Ignored)
}

func beginWait() *waiting {
	w := &waiting{signals: make(chan os.Signal, 1), cancel: make(chan struct{}), done: make(chan struct{})}
	signal.Notify(w.signals, endings()...)
	w.work.Go(func() {
		select {
		case s := <-w.signals:
			w.sig.Store(int32(s.(syscall.Signal)))
			close(w.cancel)
		case <-w.done:
		}
	})
	return w
}

// ctx gives a context that ends with the signal. Its goroutine ends with w.
func (w *waiting) ctx(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	w.work.Go(func() {
		defer cancel()
		select {
		case <-w.cancel:
		case <-w.done:
		}
	})
	return ctx
}

// caught gives the signal that came, or 0.
func (w *waiting) caught() syscall.Signal { return syscall.Signal(w.sig.Load()) }

// end stops heeding signals; caught knows of all that came before.
func (w *waiting) end() {
	close(w.done)
	w.work.Wait()
	signal.Stop(w.signals)
	select {
	case s := <-w.signals: // came while the goroutine was told to end
		w.sig.CompareAndSwap(0, int32(s.(syscall.Signal)))
	default:
	}
}

// statusLine is the one line on a terminal that says whom we wait for; it is written over itself.
type statusLine struct {
	w     *os.File
	paths []string
	shown bool
}

// newStatusLine gives nil when standard error is no terminal, or one that knows no escape sequences.
func newStatusLine(paths []string) *statusLine {
	term := os.Getenv("TERM")
	if !isTerminal(os.Stderr) || term == "" || term == "dumb" {
		return nil
	}
	return &statusLine{w: os.Stderr, paths: paths}
}

func (l *statusLine) show(q client.Queue) {
	l.shown = true
	width := columns(l.w) - 1
	io.WriteString(l.w, "\r"+clip(waitingWords(l.paths, q, time.Now(), width), width)+"\x1b[K")
}

func (l *statusLine) clear() {
	if l.shown {
		l.shown = false
		io.WriteString(l.w, "\r\x1b[K")
	}
}

// clip cuts a line of ASCII to width columns; a clock in the user's locale may be longer in bytes, never in columns.
func clip(s string, width int) string {
	for i := range s {
		if width--; width < 0 {
			return s[:i]
		}
	}
	if !utf8.ValidString(s) {
		return ascii(s)
	}
	return s
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// columns gives the terminal's width: TIOCGWINSZ, ioctl_tty(2).
func columns(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}
