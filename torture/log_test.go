package torture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"locker/audit"
)

// logCheck reads the audit log piece by piece, and removes what it has read: each start makes a new segment.
type logCheck struct {
	dir    string
	last   uint64                  // record that was read
	pruned bool                    // the beginning is gone
	grants map[uint64]audit.Record // since the last forget
	gaps   map[uint64]bool         // holds of which the log says that nobody may have held them, or that they ended while nobody did
	losses map[uint64]bool         // holds that could not be had again
	seen   []string                // segments that there were before the last read, oldest first
}

const keptSegments = 2

// read verifies what is there and takes note of what is new.
func (l *logCheck) read() (audit.Report, error) {
	seen, err := filepath.Glob(filepath.Join(l.dir, "seg-*.jsonl*"))
	if err != nil {
		return audit.Report{}, err
	}
	slices.Sort(seen)
	report, err := audit.Verify(l.dir)
	if err != nil {
		return report, fmt.Errorf("verify: %w", err)
	}
	for _, p := range report.Problems {
		if l.pruned && p.Line == 1 && strings.HasPrefix(p.Text, "records 1 to ") {
			continue
		}
		return report, fmt.Errorf("verify: %s line %d: record %d: %s (and %d more)", p.Segment, p.Line, p.Seq, p.Text, len(report.Problems)-1)
	}
	if l.grants == nil {
		l.grants, l.gaps, l.losses = map[uint64]audit.Record{}, map[uint64]bool{}, map[uint64]bool{}
	}
	err = audit.Read(l.dir, audit.Filter{First: l.last + 1, Last: report.Last}, func(_ []byte, r *audit.Record) error {
		l.last = r.Seq
		switch {
		case r.Event == audit.EventGrant:
			l.grants[r.Seq] = *r
		case r.Gap > 0:
			l.gaps[r.ID] = true
		case r.Event == audit.EventLost:
			l.gaps[r.ID], l.losses[r.ID] = true, true
		case r.Event == audit.EventDeath && strings.Contains(r.Text, "not running"):
			l.gaps[r.ID] = true
		}
		return nil
	})
	l.seen = seen
	return report, err
}

// lost reports whether the log says that a hold could not be had again.
func (l *logCheck) lost(token uint64) bool {
	_, err := l.read()
	return err == nil && l.losses[token]
}

// prune removes what was read, but for the newest segments that there were then: they may have grown since, and others have come. The next
// read begins with what is left.
func (l *logCheck) prune() (err error) {
	names, newest := l.seen, 0
	l.seen = nil
	for i, name := range slices.Backward(names) {
		if !strings.HasSuffix(name, ".jsonl") {
			continue // a torn tail that was moved aside
		}
		if newest++; newest == keptSegments {
			names = names[:i]
			break
		}
	}
	if newest < keptSegments {
		return nil
	}
	for _, name := range names {
		if e := os.Remove(name); !errors.Is(e, os.ErrNotExist) { // one may have been moved aside
			err = errors.Join(err, e)
		}
		l.pruned = true
	}
	return err
}

// check compares the log with what was answered, when everybody has let go.
func (l *logCheck) check(spans []span, files string, entered []uint64) error {
	report, err := l.read()
	if err != nil {
		return err
	}
	if report.Holds != 0 {
		return fmt.Errorf("%d holds are left in the log after everybody has let go", report.Holds)
	}
	for _, s := range spans {
		r, ok := l.grants[s.token]
		mode := "exclusive"
		if s.shared {
			mode = "shared"
		}
		if want := filepath.Join(files, fileName(s.file)); !ok || r.Path != want || r.Mode != mode || r.PID != s.pid {
			return fmt.Errorf("answered: token %d, %s, %s, pid %d, %v; in the log: %v, %s, %s, pid %d", s.token, mode, want, s.pid, s.who, ok, r.Mode, r.Path, r.PID)
		}
	}
	for _, token := range entered {
		if !l.gaps[token] {
			return fmt.Errorf("both processes were dead, and an outsider got into hold %d; the log says nothing of a gap", token)
		}
	}
	l.grants, l.gaps = nil, nil
	return l.prune()
}
