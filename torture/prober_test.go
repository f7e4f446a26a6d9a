package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A prober is a program outside: it has its own open file descriptions, and asks the kernel.

const probeEvery = 300 * time.Microsecond

// outsider has one file open, a description for each kind of lock: they do not see each other.
type outsider struct{ flock, ofd int }

func openOutsider(name string) (outsider, error) {
	a, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return outsider{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	b, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return outsider{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return outsider{a, b}, nil
}

func (o outsider) close() {
	unix.Close(o.flock)
	unix.Close(o.ofd)
}

// tryFlock takes the lock and lets go; false: somebody has it.
func (o outsider) tryFlock() (bool, error) {
	err := unix.Flock(o.flock, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, unix.Flock(o.flock, unix.LOCK_UN)
}

// tryOFD is the same with the other kind.
func (o outsider) tryOFD() (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(uintptr(o.ofd), unix.F_OFD_SETLK, &lock)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lock.Type = unix.F_UNLCK
	return true, unix.FcntlFlock(uintptr(o.ofd), unix.F_OFD_SETLK, &lock)
}

// proberMain tries to get in, all the time, wherever somebody owns a file.
func proberMain(p part) error {
	m, err := mapMemory(p.Memory)
	if err != nil {
		return err
	}
	events, err := openNotebook(m, p.Events)
	if err != nil {
		return err
	}
	x := &prober{m: m, events: events, said: map[word]bool{}}
	for f := range x.outside {
		if x.outside[f], err = openOutsider(filepath.Join(p.Files, fileName(f))); err != nil {
			return err
		}
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for n := 0; m.stop.Load() == 0; n++ {
		for f := range files {
			if err := x.probe(f); err != nil {
				return err
			}
		}
		for range min(p.Mix.Quiet, 4) { // in turn: there are many
			x.turn = (x.turn + 1) % p.Mix.Quiet
			if err := x.probe(files + x.turn); err != nil {
				return err
			}
		}
		<-tick.C
	}
	return nil
}

// prober has all files open.
type prober struct {
	m       *memory
	events  *notebook
	outside [files + quiet]outsider
	said    map[word]bool
	turn    int
}

// probe tries one file.
func (x *prober) probe(f int) error {
	for _, kind := range []string{"flock", "an OFD lock"} {
		ws := x.m.owned(f)
		if len(ws) == 0 {
			return nil
		}
		try := x.outside[f].tryFlock
		if kind != "flock" {
			try = x.outside[f].tryOFD
		}
		in, err := try()
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		x.m.probes.Add(1)
		if !in {
			continue
		}
		for _, w := range ws {
			s := &x.m.file[f]
			token, since := s.token[w.owner()].Load(), s.since[w.owner()].Load()
			if x.m.still(f, w) && !x.said[w] { // so it was owned all the while
				x.said[w] = true
				x.events.write(event{Kind: eventLost, At: now(), Since: since, File: f, Mine: w, Token: token, Text: "a program outside got " + kind})
			}
		}
	}
	return nil
}
