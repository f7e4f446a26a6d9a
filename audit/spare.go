package audit

import (
	"errors"
	"fmt"
	"io/fs"
)

// minSegment is the least space that a segment is begun with, unless Config asks for less.
const minSegment = 64 << 10 // bytes

// headSpace is what the head of the next segment takes, about.
func (l *Log) headSpace() int64 { return l.state.size + 4096 }

// spareFits says that there is a spare, and that its head will leave two thirds of it to later records: with
// less, each segment would be full as soon as it is begun.
func (l *Log) spareFits() bool { return l.spare != nil && l.spare.space >= l.leastSpace() }

func (l *Log) leastSpace() int64 {
	least := max(3*l.headSpace(), min(l.most, minSegment))
	if l.failed != nil || l.cur != nil && l.cur.bad != nil {
		least += int64(len(l.unsynced) + len(l.fresh)) // these go there, too
	}
	return least
}

// provide makes a spare that fits, or says in spareErr why there is none. It waits when somebody else is at it.
// The caller has mu, which is given back meanwhile.
func (l *Log) provide() {
	for l.making {
		l.moved.Wait()
	}
	if l.spareFits() || l.closed {
		return
	}
	l.making = true
	old, debris := l.spare, l.debris
	l.spare, l.debris = nil, nil
	l.spares++
	name := fmt.Sprintf("%s%d", sparePrefix, l.spares)
	least := l.leastSpace()
	l.mu.Unlock()

	for _, name := range debris {
		l.remove(name)
	}
	if old != nil {
		_ = old.file.Close()
		l.remove(old.name)
	}
	made := &segment{name: name}
	var err error
	made.file, made.space, err = l.fs.Create(name, least, max(least, l.most))
	if err == nil {
		made.ino, _, err = l.fs.Stat(name)
		if err != nil {
			_ = made.file.Close()
			l.remove(name)
		}
	}

	l.mu.Lock()
	first := l.spareErr == nil
	l.making, l.spareErr = false, err
	if err == nil {
		l.spare = made
	}
	l.moved.Broadcast()
	if err != nil {
		l.work.wantSpare() // later
	}
	switch {
	case err != nil && first:
		l.say("no spare audit segment can be made", "error", err)
	case err == nil && !first:
		l.say("spare audit segment made again", "bytes", made.space)
	}
}

// remove removes a file of ours, or keeps its name in mind for the next try: a segment that was given up must
// not stay under a name that the next one needs. The caller does not have mu.
func (l *Log) remove(name string) {
	if err := l.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.mu.Lock()
		l.debris = append(l.debris, name)
		l.mu.Unlock()
	}
}

// discard closes and removes a spare. The caller has mu, which is given back meanwhile.
func (l *Log) discard(s *segment) {
	l.mu.Unlock()
	_ = s.file.Close()
	l.remove(s.name)
	l.mu.Lock()
}
