package authz

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The TOML library decodes values but does not say on which line they stand, and
// some documents of 1 MiB (dotted keys, nested inline tables) cost it gigabytes.
// So the text is scanned first: into tables and keys with their lines, in the
// plain part of TOML that a policy needs. What the two disagree on is refused.

// table is a [name] or [[name]] with its keys; the first one, named "", holds the
// keys above all headers.
type table struct {
	name    string
	array   bool // [[name]]
	line    int
	entries []entry
}

// entry is one key = value. value is what the TOML library made of it: a string,
// int64, bool, float64, time or []any.
type entry struct {
	key   string
	line  int
	items []int // line of each element when the value is an array
	value any
}

// problem is an error with its line, which counts from 1.
type problem struct {
	line int
	text string
}

func problemf(line int, format string, args ...any) *problem {
	return &problem{line, fmt.Sprintf(format, args...)}
}

// Bounds on the shape of a file, so that no text is expensive to decode.
const (
	maxTables  = 2*maxRules + 16
	maxEntries = 64   // keys in one table; no table has that many valid ones
	maxItems   = 1024 // elements of an array
)

// scanner walks over the text. pos never leaves [0, len(text)].
type scanner struct {
	text string
	pos  int
	line int
}

// scan splits text into its tables.
func scan(text []byte) ([]table, *problem) {
	if p := scanBytes(text); p != nil {
		return nil, p
	}
	s := &scanner{text: string(text), line: 1}
	tables := []table{{line: 1}}
	for {
		s.blank(true)
		if s.pos == len(s.text) {
			return tables, nil
		}
		current := &tables[len(tables)-1]
		if s.peek() == '[' {
			t, p := s.header()
			if p != nil {
				return nil, p
			}
			if len(tables) == maxTables {
				return nil, problemf(t.line, "more than %d tables", maxTables)
			}
			tables = append(tables, t)
		} else {
			e, p := s.entry()
			if p != nil {
				return nil, p
			}
			if len(current.entries) == maxEntries {
				return nil, problemf(e.line, "more than %d keys in one table", maxEntries)
			}
			current.entries = append(current.entries, e)
		}
		if p := s.endOfLine(); p != nil {
			return nil, p
		}
	}
}

// scanBytes refuses what is no text. The TOML library would skip a byte order
// mark, a UTF-16 one included.
func scanBytes(text []byte) *problem {
	lineAt := func(i int) int { return 1 + bytes.Count(text[:i], []byte("\n")) }
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) ||
		bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return problemf(1, "starts with a byte order mark: save it as plain UTF-8")
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return problemf(lineAt(i), "byte 0x%02x is not UTF-8", text[i])
		}
		crlf := r == '\r' && i+1 < len(text) && text[i+1] == '\n'
		if (r < ' ' && r != '\t' && r != '\n' && !crlf) || r == 0x7f {
			return problemf(lineAt(i), "control character 0x%02x", r)
		}
		i += size
	}
	return nil
}

// peek returns the byte at pos, 0 at the end; the text holds no other 0.
func (s *scanner) peek() byte {
	if s.pos < len(s.text) {
		return s.text[s.pos]
	}
	return 0
}

// blank skips spaces and tabs, and with lines also comments and line ends.
func (s *scanner) blank(lines bool) {
	for {
		switch c := s.peek(); {
		case c == ' ' || c == '\t':
			s.pos++
		case lines && c == '#':
			if i := strings.IndexByte(s.text[s.pos:], '\n'); i >= 0 {
				s.pos += i
			} else {
				s.pos = len(s.text)
			}
		case lines && c == '\n':
			s.line++
			s.pos++
		case lines && c == '\r':
			s.pos++
		default:
			return
		}
	}
}

// endOfLine expects nothing but a comment before the next line.
func (s *scanner) endOfLine() *problem {
	s.blank(false)
	switch s.peek() {
	case 0, '\n', '\r', '#':
		return nil
	}
	return problemf(s.line, "unexpected %s after the value", s.near())
}

// near quotes the next few characters for an error.
func (s *scanner) near() string {
	rest, _, _ := strings.Cut(s.text[s.pos:], "\n")
	if rest = strings.TrimSuffix(rest, "\r"); rest == "" {
		return "end of line"
	}
	for i := range rest {
		if i >= 20 {
			rest = rest[:i] + "…"
			break
		}
	}
	return fmt.Sprintf("%q", rest)
}

// header reads [name] or [[name]].
func (s *scanner) header() (table, *problem) {
	t := table{line: s.line}
	s.pos++
	if s.peek() == '[' {
		t.array = true
		s.pos++
	}
	s.blank(false)
	name, p := s.bareKey("table name")
	if p != nil {
		return t, p
	}
	t.name = name
	s.blank(false)
	if s.peek() == '.' {
		return t, problemf(s.line, "no table has tables of its own: [%s.…] is unknown", name)
	}
	end := "]"
	if t.array {
		end = "]]"
	}
	if !strings.HasPrefix(s.text[s.pos:], end) {
		return t, problemf(s.line, "expected %q after the table name, found %s", end, s.near())
	}
	s.pos += len(end)
	return t, nil
}

// bareKey reads a key without quotes.
func (s *scanner) bareKey(what string) (string, *problem) {
	start := s.pos
	for c := s.peek(); isWordByte(c); c = s.peek() {
		s.pos++
	}
	if s.pos == start {
		if c := s.peek(); c == '"' || c == '\'' {
			return "", problemf(s.line, "write the %s without quotes", what)
		}
		return "", problemf(s.line, "expected a %s, found %s", what, s.near())
	}
	return s.text[start:s.pos], nil
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
