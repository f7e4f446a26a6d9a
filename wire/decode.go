package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// forever is the longest duration that a field can hold.
const forever = time.Duration(math.MaxInt64)

// decoder takes fields from the front of rest and remembers the first error. After it every field reads as zero and
// every list as empty, so that its callers need not look.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(field string, why error) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", field, why)
	}
	d.rest = nil
}

// take gives the next n bytes, or nil.
func (d *decoder) take(field string, n int) []byte {
	if d.err != nil || len(d.rest) < n {
		d.fail(field, ErrTruncated)
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) u8(field string) uint8 {
	if b := d.take(field, 1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u16(field string) uint16 {
	if b := d.take(field, 2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32(field string) uint32 {
	if b := d.take(field, 4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64(field string) uint64 {
	if b := d.take(field, 8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) bool(field string) bool {
	v := d.u8(field)
	if v > 1 {
		d.fail(field, ErrValue)
	}
	return v == 1
}

func (d *decoder) enum(field string, end uint8) uint8 {
	v := d.u8(field)
	if v == 0 || v >= end {
		d.fail(field, ErrValue)
	}
	return v
}

func (d *decoder) id(field string) uint64 {
	v := d.u64(field)
	if v == 0 {
		d.fail(field, ErrValue)
	}
	return v
}

func (d *decoder) rests(field string) Rest {
	v := Rest(d.u8(field))
	if v >= endRest {
		d.fail(field, ErrValue)
	}
	return v
}

// str copies, after the length has been checked against the limit and against what is there.
func (d *decoder) str(field string, max int) string {
	n := int(d.u16(field))
	if n > max {
		d.fail(field, ErrLimit)
		return ""
	}
	return string(d.take(field, n))
}

func (d *decoder) name(field string, max int) string {
	s := d.str(field, max)
	if s == "" {
		d.fail(field, ErrValue)
	}
	return s
}

// count reads the number of a list's elements. Each takes at least size bytes, so that a count which the frame cannot
// hold is refused before anything is allocated for it.
func (d *decoder) count(field string, max, size int) int {
	n := int(d.u16(field))
	if n > max {
		d.fail(field, ErrLimit)
		return 0
	}
	if n*size > len(d.rest) {
		d.fail(field, ErrTruncated)
		return 0
	}
	return n
}

// names reads into one, which has room for the commonest length, 1, without a second allocation; nil means none.
func (d *decoder) names(field string, one []string, maxCount, maxLen int) []string {
	n := d.count(field, maxCount, 2)
	if n == 0 {
		return nil
	}
	list := one
	if n != len(one) {
		list = make([]string, n)
	}
	for i := range list {
		list[i] = d.name(field, maxLen)
	}
	return list
}

func (d *decoder) lines(field string) []string {
	n := d.count(field, MaxListed, 2)
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = d.str(field, MaxText)
	}
	return list
}

func (d *decoder) duration(field string, max time.Duration) time.Duration {
	v := time.Duration(d.u64(field))
	if v < 0 || v > max {
		d.fail(field, ErrValue)
		return 0
	}
	return v
}

// time gives UTC.
func (d *decoder) time(field string) time.Time {
	n := int64(d.u64(field))
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func (d *decoder) must(field string, ok bool) {
	if !ok {
		d.fail(field, ErrCombination)
	}
}
