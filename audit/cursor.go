package audit

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"
)

// cursor walks a line from left to right. The first error stays in err.
type cursor struct {
	rest  []byte
	names map[string]string
	err   error
}

// key steps over s when it comes next.
func (c *cursor) key(s string) bool {
	if len(c.rest) < len(s) || string(c.rest[:len(s)]) != s {
		return false
	}
	c.rest = c.rest[len(s):]
	return true
}

func (c *cursor) must(s string) {
	if !c.key(s) {
		c.fail(s)
	}
}

func (c *cursor) fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("parse record: %s expected, %d bytes before the end", what, len(c.rest))
	}
}

func (c *cursor) uint(max uint64) uint64 {
	var v uint64
	n := 0
	for n < len(c.rest) && c.rest[n] >= '0' && c.rest[n] <= '9' {
		d := uint64(c.rest[n] - '0')
		if v > max/10 || v == max/10 && d > max%10 {
			c.fail("a smaller number")
			return 0
		}
		v = v*10 + d
		n++
	}
	if n == 0 {
		c.fail("a number")
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) optUint(key string) uint64 {
	if !c.key(key) {
		return 0
	}
	return c.uint(math.MaxUint64)
}

func (c *cursor) int(key string, max int64) int64 {
	if !c.key(key) {
		return 0
	}
	if c.key("-") {
		return -int64(c.uint(uint64(max) + 1))
	}
	return int64(c.uint(uint64(max)))
}

// raw returns the inside of a JSON string, still escaped, and steps over its closing quote.
func (c *cursor) raw() []byte {
	i := 0
	for i < len(c.rest) {
		q := bytes.IndexByte(c.rest[i:], '"')
		if q < 0 {
			break
		}
		i += q
		// The quote ends the string unless an odd number of backslashes stands before it.
		back := 0
		for back < i && c.rest[i-1-back] == '\\' {
			back++
		}
		if back%2 == 0 {
			s := c.rest[:i]
			c.rest = c.rest[i+1:]
			return s
		}
		i++
	}
	c.fail("a closing quote")
	return nil
}

func (c *cursor) text() []byte {
	raw := c.raw()
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	s, err := unescape(make([]byte, 0, len(raw)), raw)
	if err != nil {
		c.fail("a valid escape")
	}
	return s
}

func (c *cursor) string(key string) string {
	if !c.key(key) {
		return ""
	}
	return string(c.text())
}

// name is string for what comes again and again.
func (c *cursor) name(key string) string {
	if !c.key(key) {
		return ""
	}
	b := c.text()
	if s, ok := c.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if c.names != nil && len(c.names) < 4096 {
		c.names[s] = s
	}
	return s
}

func (c *cursor) list(key string) []string {
	if !c.key(key) {
		return nil
	}
	var list []string
	for c.err == nil {
		if len(c.rest) == 0 || c.rest[0] != '"' {
			c.fail("a list of strings")
			break
		}
		list = append(list, c.name(`"`))
		if !c.key(`,`) {
			c.must(`]`)
			break
		}
	}
	return list
}

func (c *cursor) time(key string) time.Time {
	if !c.key(key) {
		return time.Time{}
	}
	// Nine digits and Z: one time has one spelling, which ParseLine checks by writing it again.
	raw := c.raw()
	t, err := parseTime(raw)
	if err != nil {
		c.fail("a time")
	}
	return t
}

func parseTime(b []byte) (time.Time, error) {
	const form = "2006-01-02T15:04:05.000000000Z"
	if len(b) != len(form) {
		return time.Time{}, strconv.ErrSyntax
	}
	for i := range b {
		digit := form[i] >= '0' && form[i] <= '9'
		if digit && (b[i] < '0' || b[i] > '9') || !digit && b[i] != form[i] {
			return time.Time{}, strconv.ErrSyntax
		}
	}
	num := func(from, to int) int {
		v := 0
		for _, d := range b[from:to] {
			v = v*10 + int(d-'0')
		}
		return v
	}
	return time.Date(num(0, 4), time.Month(num(5, 7)), num(8, 10), num(11, 13), num(14, 16), num(17, 19), num(20, 29), time.UTC), nil
}
