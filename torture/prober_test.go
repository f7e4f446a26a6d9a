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
	var outside [files]outsider
	for f := range outside {
		if outside[f], err = openOutsider(filepath.Join(p.Files, fileName(f))); err != nil {
			return err
		}
	}
	said := map[word]bool{}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for m.stop.Load() == 0 {
		for f, o := range outside {
			for name, try := range map[string]func() (bool, error){"flock": o.tryFlock, "an OFD lock": o.tryOFD} {
				ws := m.owned(f)
				if len(ws) == 0 {
					break
				}
				in, err := try()
				if err != nil {
					return fmt.Errorf("probe: %w", err)
				}
				m.probes.Add(1)
				if !in {
					continue
				}
				for _, w := range ws {
					s := &m.file[f]
					token, since := s.token[w.owner()].Load(), s.since[w.owner()].Load()
					if m.still(f, w) && !said[w] { // so it was owned all the while
						said[w] = true
						events.write(event{Kind: eventLost, At: now(), Since: since, File: f, Mine: w, Token: token, Text: "a program outside got " + name})
					}
				}
			}
		}
		<-tick.C
	}
	return nil
}
