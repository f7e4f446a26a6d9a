package audit

import (
	"errors"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendText appends s as the inside of a JSON string whose value is strconv.QuoteToASCII(s) without its
// quotes: printable ASCII, lossless for any bytes, no line end, no terminal escape, no bidi control.
// encoding/json would map every invalid byte to U+FFFD: two different paths would be logged alike.
func appendText(dst []byte, s string) []byte {
	i := 0
	for i < len(s) && isPlain(s[i]) {
		i++
	}
	dst = append(dst, s[:i]...)
	for i < len(s) {
		c := s[i]
		if isPlain(c) {
			dst = append(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = appendHex(append(dst, `\\x`...), uint32(c), 2)
		} else {
			dst = appendRune(dst, r)
		}
		i += n
	}
	return dst
}

// isPlain says that c stands for itself in both languages, QuoteToASCII and JSON.
func isPlain(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }

// appendRune escapes a rune that is not plain as strconv.QuoteToASCII does, each backslash doubled for JSON.
func appendRune(dst []byte, r rune) []byte {
	switch r {
	case '"':
		return append(dst, `\\\"`...)
	case '\\':
		return append(dst, `\\\\`...)
	case '\a':
		return append(dst, `\\a`...)
	case '\b':
		return append(dst, `\\b`...)
	case '\f':
		return append(dst, `\\f`...)
	case '\n':
		return append(dst, `\\n`...)
	case '\r':
		return append(dst, `\\r`...)
	case '\t':
		return append(dst, `\\t`...)
	case '\v':
		return append(dst, `\\v`...)
	}
	switch {
	case r < ' ' || r == 0x7f:
		return appendHex(append(dst, `\\x`...), uint32(r), 2)
	case r < 0x10000:
		return appendHex(append(dst, `\\u`...), uint32(r), 4)
	}
	return appendHex(append(dst, `\\U`...), uint32(r), 8)
}

func appendHex(dst []byte, v uint32, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[v>>shift&0xf])
	}
	return dst
}

var errEscape = errors.New("bad escape")

// unescape appends the bytes that appendText made src from. It is lenient about form (\\x41 for A):
// ParseLine encodes again and compares.
func unescape(dst, src []byte) ([]byte, error) {
	for i := 0; i < len(src); {
		c := src[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		// Each escape begins with a doubled backslash; what follows is QuoteToASCII's letter.
		if i+2 >= len(src) || src[i+1] != '\\' {
			return nil, errEscape
		}
		letter := src[i+2]
		i += 3
		digits := 0
		switch letter {
		case '\\': // the escape of a quote or of a backslash: one more JSON escape
			if i >= len(src) || src[i] != '"' && src[i] != '\\' {
				return nil, errEscape
			}
			dst = append(dst, src[i])
			i++
		case 'a':
			dst = append(dst, '\a')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'v':
			dst = append(dst, '\v')
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		default:
			return nil, errEscape
		}
		if digits == 0 {
			continue
		}
		v, ok := parseHex(src[i:], digits)
		if !ok {
			return nil, errEscape
		}
		i += digits
		if digits == 2 {
			dst = append(dst, byte(v))
		} else {
			dst = utf8.AppendRune(dst, rune(v))
		}
	}
	return dst, nil
}

func parseHex(src []byte, digits int) (v uint32, ok bool) {
	if len(src) < digits {
		return 0, false
	}
	for _, c := range src[:digits] {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint32(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint32(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}
