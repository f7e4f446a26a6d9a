package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// encoder appends fields and remembers the first that was refused.
type encoder struct {
	buf []byte
	err error
}

func (e *encoder) fail(field string, why error) {
	if e.err == nil {
		e.err = fmt.Errorf("%s: %w", field, why)
	}
}

func (e *encoder) u8(v uint8)   { e.buf = append(e.buf, v) }
func (e *encoder) u16(v uint16) { e.buf = binary.BigEndian.AppendUint16(e.buf, v) }
func (e *encoder) u32(v uint32) { e.buf = binary.BigEndian.AppendUint32(e.buf, v) }
func (e *encoder) u64(v uint64) { e.buf = binary.BigEndian.AppendUint64(e.buf, v) }

func (e *encoder) bool(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

// enum appends v, which must be at least 1 and below end.
func (e *encoder) enum(field string, v, end uint8) {
	if v == 0 || v >= end {
		e.fail(field, ErrValue)
	}
	e.u8(v)
}

// id appends a number that 0 is none of.
func (e *encoder) id(field string, v uint64) {
	if v == 0 {
		e.fail(field, ErrValue)
	}
	e.u64(v)
}

// rests appends a set of known bits.
func (e *encoder) rests(field string, v Rest) {
	if v >= endRest {
		e.fail(field, ErrValue)
	}
	e.u8(uint8(v))
}

func (e *encoder) str(field, s string, max int) {
	if len(s) > max {
		e.fail(field, ErrLimit)
		return
	}
	e.u16(uint16(len(s)))
	e.buf = append(e.buf, s...)
}

// name appends a string that must not be empty.
func (e *encoder) name(field, s string, max int) {
	if s == "" {
		e.fail(field, ErrValue)
	}
	e.str(field, s, max)
}

// count appends the number of a list's elements; false when the list must not be appended.
func (e *encoder) count(field string, n, max int) bool {
	if n > max {
		e.fail(field, ErrLimit)
		return false
	}
	e.u16(uint16(n))
	return true
}

// names appends a list of strings of which none is empty.
func (e *encoder) names(field string, list []string, maxCount, maxLen int) {
	if !e.count(field, len(list), maxCount) {
		return
	}
	for _, s := range list {
		e.name(field, s, maxLen)
	}
}

// lines appends a list of texts.
func (e *encoder) lines(field string, list []string) {
	if !e.count(field, len(list), MaxListed) {
		return
	}
	for _, s := range list {
		e.str(field, s, MaxText)
	}
}

// duration appends nanoseconds, from 0 to max.
func (e *encoder) duration(field string, v, max time.Duration) {
	if v < 0 || v > max {
		e.fail(field, ErrValue)
	}
	e.u64(uint64(v))
}

// time appends Unix nanoseconds; the zero Time is 0, and the one nanosecond that would look like it is refused, as
// are times before 1678 and after 2261, for which UnixNano is undefined.
func (e *encoder) time(field string, t time.Time) {
	if t.IsZero() {
		e.u64(0)
		return
	}
	n := t.UnixNano()
	if n == 0 || !time.Unix(0, n).Equal(t) {
		e.fail(field, ErrValue)
	}
	e.u64(uint64(n))
}

// must refuses a combination of fields.
func (e *encoder) must(field string, ok bool) {
	if !ok {
		e.fail(field, ErrCombination)
	}
}
