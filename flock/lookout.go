package flock

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Lookout looks where many paths lead. The way to the last mount before an allow entry is walked once for all of them, as Open walks it, and
// kept open: what is changed on it meanwhile is not seen. So it is for one occasion, and not for two goroutines. Close ends it.
type Lookout struct {
	o       *Opener
	entered map[*root]entered
}

type entered struct {
	fd  int // -1: err says why not
	err error
}

// Lookout begins to look.
func (o *Opener) Lookout() *Lookout {
	return &Lookout{o: o, entered: map[*root]entered{}}
}

// Close forgets what was walked.
func (l *Lookout) Close() {
	for _, e := range l.entered {
		if e.fd >= 0 {
			unix.Close(e.fd)
		}
	}
	l.entered = nil
}

// LeadsTo reports whether target leads to the file id now, and the file has a name left. It needs no descriptor of the file. false
// without an error means that the path leads elsewhere, nowhere, or where nothing is opened; an error that it could not be found out.
//
// Privileged: as Open; nothing is opened for real.
func (l *Lookout) LeadsTo(target string, id ID) (bool, error) {
	for range maxAttempts {
		st, err := l.stat(target)
		switch {
		case err == nil:
			return st.Dev == id.Dev && st.Ino == id.Ino && st.Nlink > 0, nil
		case errors.Is(err, unix.EAGAIN):
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrSymlink), errors.Is(err, ErrMount), errors.Is(err, ErrOutside):
			return false, nil
		default:
			return false, pathError("look again", target, err)
		}
	}
	return false, &OpenBusy{Path: target}
}

// stat is fstat of what path leads to.
//
// Privileged: as LeadsTo.
func (l *Lookout) stat(path string) (st unix.Stat_t, err error) {
	r, rest := l.o.rootOf(path)
	if r == nil {
		return st, ErrOutside
	}
	e, known := l.entered[r]
	if !known || errors.Is(e.err, unix.EAGAIN) {
		e.fd, _, e.err = l.o.enter(r)
		l.entered[r] = e
	}
	if e.err != nil {
		return st, e.err
	}
	fd := e.fd
	if rest = r.below(rest); rest != "" {
		if fd, err = openat2(fd, rest, beneath); err != nil {
			return st, meaning(err)
		}
		defer unix.Close(fd)
	}
	return st, unix.Fstat(fd, &st)
}
