package main

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// speaker writes the three kinds of lines for people.
type speaker struct{ w io.Writer }

func (s speaker) line(text string)    { io.WriteString(s.w, "locker: "+text+"\n") }
func (s speaker) warning(text string) { io.WriteString(s.w, "locker: warning: "+text+"\n") }
func (s speaker) hint(text string)    { io.WriteString(s.w, "locker: hint: "+text+"\n") }

// shown gives somebody's bytes in a form that no terminal obeys and no reader mistakes: as they are, when all of them
// are printable; else quoted, in ASCII. A text that holds a quote or a backslash is quoted too, so that what looks
// quoted is.
func shown(s string) string {
	if clean(s) {
		return s
	}
	return strconv.QuoteToASCII(s)
}

// clean reports whether s can be shown as it is. strconv.IsPrint knows no control or format characters (bidi
// overrides among them) and no space but U+0020.
func clean(s string) bool {
	wide := utf8Terminal()
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"): // not UTF-8
			return false
		case r == '"' || r == '\\' || !strconv.IsPrint(r):
			return false
		case r >= utf8.RuneSelf && !wide:
			return false
		}
	}
	return s != "" && s[0] != ' ' && s[len(s)-1] != ' '
}

// utf8Terminal reports whether the locale is one of UTF-8: locale(7).
func utf8Terminal() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// ascii is shown, whatever the locale: for a line whose width must be known.
func ascii(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return strconv.QuoteToASCII(s)
		}
	}
	return shown(s)
}
