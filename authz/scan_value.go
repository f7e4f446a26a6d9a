package authz

import (
	"errors"
	"strconv"
	"strings"
)

// entry reads key = value, without looking into the value.
func (s *scanner) entry() (entry, *problem) {
	e := entry{line: s.line}
	key, p := s.bareKey("key")
	if p != nil {
		return e, p
	}
	e.key = key
	s.blank(false)
	switch s.peek() {
	case '.':
		return e, problemf(s.line, "dotted keys are not used here: write [%s] above its keys", key)
	case '=':
		s.pos++
	default:
		return e, problemf(s.line, `expected "=" after %q, found %s`, key, s.near())
	}
	s.blank(false)
	if s.peek() != '[' {
		return e, s.scalar(key)
	}
	e.items = []int{} // an empty array is one, too
	s.pos++
	for {
		s.blank(true)
		if s.peek() == ']' {
			s.pos++
			return e, nil
		}
		if s.pos == len(s.text) {
			return e, problemf(e.line, `the list of %q is not closed: "]" is missing`, key)
		}
		if s.peek() == '[' {
			return e, problemf(s.line, "a list within the list of %q", key)
		}
		if len(e.items) == maxItems {
			return e, problemf(s.line, "more than %d values in the list of %q", maxItems, key)
		}
		e.items = append(e.items, s.line)
		if p := s.scalar(key); p != nil {
			return e, p
		}
		s.blank(true)
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
		case 0:
			return e, problemf(e.line, `the list of %q is not closed: "]" is missing`, key)
		default:
			return e, problemf(s.line, `expected "," or "]" in the list of %q, found %s`, key, s.near())
		}
	}
}

// scalar skips a string, number, boolean or date. Whether it is a valid one is
// for the TOML library to say.
func (s *scanner) scalar(key string) *problem {
	switch c := s.peek(); c {
	case '{':
		return problemf(s.line, "the value of %q is an inline table: write the keys one below the other", key)
	case '"', '\'':
		return s.quoted(key, c)
	}
	start := s.pos
	for c := s.peek(); isWordByte(c) || c == '+' || c == '.' || c == ':'; c = s.peek() {
		s.pos++
	}
	if s.pos == start {
		return problemf(s.line, "expected a value for %q, found %s", key, s.near())
	}
	if word := s.text[start:s.pos]; !bareValue(word) {
		return problemf(s.line, "%s is neither a number nor true nor false: a string needs quotes", word)
	}
	return nil
}

// bareValue reports whether word could be a value without quotes: what the TOML
// library says about 12h helps nobody.
func bareValue(word string) bool {
	_, err := strconv.ParseInt(word, 0, 64)
	if err != nil {
		_, err = strconv.ParseFloat(word, 64)
	}
	date := strings.Contains(word, ":") || strings.Count(word, "-") == 2
	return err == nil || errors.Is(err, strconv.ErrRange) || date || word == "true" || word == "false"
}

// quoted skips a string in double (basic) or single (literal) quotes, on one line.
func (s *scanner) quoted(key string, quote byte) *problem {
	s.pos++
	if s.peek() == quote && s.pos+1 < len(s.text) && s.text[s.pos+1] == quote {
		return problemf(s.line, "the value of %q is a string over several lines: write it on one", key)
	}
	for {
		switch c := s.peek(); {
		case c == 0 || c == '\n':
			return problemf(s.line, "the string of %q is not closed: %c is missing", key, quote)
		case c == quote:
			s.pos++
			return nil
		case c == '\\' && quote == '"' && s.pos+1 < len(s.text) && s.text[s.pos+1] != '\n':
			s.pos++ // the escaped byte is skipped below
		}
		s.pos++
	}
}
