package main

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
)

// object writes JSON by hand: what locker prints is small and flat, and encoding/json would leave in what a terminal
// obeys (U+009B, U+202E) and make bytes that are not UTF-8 indistinguishable. The output is ASCII.
type object struct {
	b     []byte
	comma bool // something stands before, in the object or list that is open
}

func (o *object) separate() {
	if o.comma {
		o.b = append(o.b, ',')
	}
	o.comma = true
}

// open begins an object '{' or a list '['; close ends it.
func (o *object) open(bracket byte) {
	o.separate()
	o.b, o.comma = append(o.b, bracket), false
}

func (o *object) close(bracket byte) { o.b, o.comma = append(o.b, bracket), true }

func (o *object) key(name string) {
	o.separate()
	o.b = append(o.b, '"')
	o.b = append(o.b, name...)
	o.b, o.comma = append(o.b, '"', ':'), false
}

func (o *object) raw(value string) {
	o.separate()
	o.b = append(o.b, value...)
}

func (o *object) text(name, value string) {
	o.key(name)
	o.element(value)
}

func (o *object) element(value string) {
	o.separate()
	o.b = appendText(o.b, value)
}

func (o *object) number(name string, n uint64) {
	o.key(name)
	o.raw(strconv.FormatUint(n, 10))
}

func (o *object) signed(name string, n int64) {
	o.key(name)
	o.raw(strconv.FormatInt(n, 10))
}

func (o *object) fact(name string, is bool) {
	o.key(name)
	o.raw(strconv.FormatBool(is))
}

// time writes RFC 3339 in UTC, null for the zero time.
func (o *object) time(name string, t time.Time) {
	if t.IsZero() {
		o.key(name)
		o.raw("null")
		return
	}
	o.text(name, t.UTC().Format(time.RFC3339Nano))
}

func (o *object) list(name string, values []string) {
	o.key(name)
	o.open('[')
	for _, v := range values {
		o.element(v)
	}
	o.close(']')
}

// path writes a path: as it is when it is UTF-8; else escaped, and its bytes in base64 beside it.
func (o *object) path(name, value string) {
	o.text(name, value)
	if !utf8.ValidString(value) {
		o.text(name+"_base64", base64.StdEncoding.EncodeToString([]byte(value)))
	}
}

// appendText appends s as a JSON string in ASCII. What is not UTF-8 becomes strconv.QuoteToASCII's text.
func appendText(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		q := strconv.QuoteToASCII(s)
		s = q[1 : len(q)-1]
	}
	const hex = "0123456789abcdef"
	unit := func(u rune) {
		b = append(b, '\\', 'u', hex[u>>12&15], hex[u>>8&15], hex[u>>4&15], hex[u&15])
	}
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r < 0x7f:
			b = append(b, byte(r))
		case r <= 0xffff:
			unit(r)
		default: // a surrogate pair: RFC 8259, section 7
			r -= 0x10000
			unit(0xd800 + r>>10)
			unit(0xdc00 + r&0x3ff)
		}
	}
	return append(b, '"')
}
