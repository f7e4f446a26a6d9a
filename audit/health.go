package audit

import "fmt"

// Health is how the log is, for people who ask lockerd.
type Health struct {
	Segment  string // name of the current file
	Seq      uint64 // last number given
	Err      error  // why grants are refused now; nil: they are not
	SpareErr error  // why there is no spare segment: grants will be refused when this one is full
	Left     int64  // bytes until then
	HeldBack uint64 // records in memory only, because the log cannot be written
}

// Health may be called at any time.
func (l *Log) Health() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := Health{Seq: l.seq}
	if l.spare == nil {
		h.SpareErr = l.spareErr
	}
	if l.cur != nil {
		h.Segment = l.cur.name
		h.Left = max(0, l.cur.space-l.reserve()-l.size)
	}
	switch {
	case l.closed:
		h.Err = ErrClosed
	case l.failed != nil:
		h.Err = fmt.Errorf("%w: %w", ErrFailed, l.failed)
		h.HeldBack = l.seq - l.written
	case l.lacking():
		h.Err = fmt.Errorf("%w: %w", ErrFull, l.spareErr)
	}
	return h
}
