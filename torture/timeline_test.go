package torture

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// timeline remembers who was dead when.
type timeline struct {
	mu      sync.Mutex // guards what follows
	begun   int64
	gen     uint64 // deaths and starts so far
	good    int64  // both were seen to serve, asked at this time
	lines   []string
	file    *os.File // has all of them
	open    *fault
	faults  []fault // closed ones
	deaths  []int64 // of brokers
	doubles int
}

// fault is the time around some deaths: from when both were last seen to serve until they were again. A death is noticed some time after it
// happened.
type fault struct {
	from, to int64
	first    int64 // death
	dead     [roles]int
}

// double reports whether both were dead in it, though perhaps one after the other.
func (f *fault) double() bool { return f.dead[brokerRole] > 0 && f.dead[keeperRole] > 0 }

func newTimeline(file *os.File) *timeline { return &timeline{begun: now(), file: file} }

const kept = 60 // lines

// line adds a line. The caller holds mu.
func (t *timeline) line(at int64, format string, args ...any) {
	text := fmt.Sprintf("%11.6f  ", float64(at-t.begun)/1e9) + fmt.Sprintf(format, args...)
	t.lines = append(t.lines, text)
	fmt.Fprintln(t.file, text)
	if len(t.lines) > 2*kept {
		t.lines = append(t.lines[:0], t.lines[len(t.lines)-kept:]...)
	}
}

func (t *timeline) said(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(now(), format, args...)
}

func (t *timeline) started(r role, pid int, step string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gen++
	if step != "" {
		step = ", to kill itself at " + step
	}
	t.line(now(), "%v %d started%s", r, pid, step)
}

func (t *timeline) ended(r role, pid int, how string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := now()
	t.gen++
	t.line(at, "%v %d %s", r, pid, how)
	if t.open == nil {
		t.open = &fault{from: t.good, first: at}
	}
	t.open.dead[r]++
	if r == brokerRole {
		t.deaths = append(t.deaths, at)
	}
}

func (t *timeline) generation() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gen
}

// close says that both serve, who were asked at this time and in this generation; false: something has happened since.
func (t *timeline) close(generation uint64, asked int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gen != generation {
		return false
	}
	t.good = asked
	if t.open != nil {
		t.open.to = now()
		t.line(t.open.to, "both serve, after %.1f ms", float64(t.open.to-t.open.first)/1e6)
		if t.open.double() {
			t.doubles++
		}
		t.faults = append(t.faults, *t.open)
		t.open = nil
	}
	return true
}

// bothDead reports whether both were dead at the same time, or may have been, between two moments. ok is false if that cannot be said
// yet: a death may not have been noticed.
func (t *timeline) bothDead(from, to int64) (both, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != nil && t.open.from <= to && t.open.double() {
		return true, true
	}
	for _, f := range t.faults {
		if f.double() && f.from <= to && from <= f.to {
			return true, true
		}
	}
	return false, t.open == nil && t.good > to
}

// brokerDied reports whether a broker was found dead between two moments: a request that was sent again meanwhile was sent to the next one,
// which was started after that.
func (t *timeline) brokerDied(from, to int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, at := range t.deaths {
		if from <= at && at <= to {
			return true
		}
	}
	return false
}

// forget drops what is older than all holds.
func (t *timeline) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults, t.deaths = nil, nil
}

// last gives the latest lines.
func (t *timeline) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines[max(0, len(t.lines)-kept):], "\n")
}
