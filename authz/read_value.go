package authz

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// describe names a TOML value for an error.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case time.Time:
		return "a date"
	case []any:
		return "a list"
	}
	return "a table"
}

// text returns the value of e as a string.
func (r *reader) text(e entry, example string) (string, bool) {
	s, ok := e.value.(string)
	if !ok {
		r.failf(e.line, "%s must be a string such as %q, not %s", e.key, example, describe(e.value))
	}
	return s, ok
}

// integer returns the value of e as a whole number from 1 to most.
func (r *reader) integer(e entry, most int) (int, bool) {
	n, ok := e.value.(int64)
	switch {
	case !ok:
		r.failf(e.line, "%s must be a whole number, not %s", e.key, describe(e.value))
	case n < 1 || n > int64(most):
		r.failf(e.line, "%s = %d is not within 1 to %d", e.key, n, most)
	default:
		return int(n), true
	}
	return 0, false
}

// list returns the elements of a list that is not empty.
func (r *reader) list(e entry, example string) ([]any, bool) {
	items, ok := e.value.([]any)
	switch {
	case !ok:
		r.failf(e.line, "%s must be a list such as %s, not %s", e.key, example, describe(e.value))
	case len(items) == 0:
		r.failf(e.line, "%s is empty: name somebody or something, or leave the key out", e.key)
	default:
		return items, true
	}
	return nil, false
}

// strings returns the elements of a list of different strings, each with its line.
func (r *reader) strings(e entry, example string) (words []string, lines []int) {
	items, _ := r.list(e, example)
	seen := map[string]bool{}
	for i, item := range items {
		s, isString := item.(string)
		switch {
		case !isString:
			r.failf(e.items[i], "%s holds %s: expected strings such as %s", e.key, describe(item), example)
		case seen[s]:
			r.failf(e.items[i], "%q stands twice in %s", s, e.key)
		default:
			seen[s] = true
			words, lines = append(words, s), append(lines, e.items[i])
		}
	}
	return words, lines
}

// duration returns the value of e as a duration above zero.
func (r *reader) duration(e entry) (time.Duration, bool) {
	s, ok := r.text(e, "12h")
	if !ok {
		return 0, false
	}
	d, err := parseDuration(s)
	if err != nil {
		r.failf(e.line, "%s: %v", e.key, err)
	}
	return d, err == nil
}

// parseDuration reads what time.ParseDuration does, with whole days before it:
// "7d", "1d12h". The result is above zero.
func parseDuration(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	bad := fmt.Errorf(`%q is no duration: write one such as "90s", "30m", "12h" or "7d"`, s)
	var days int64
	rest := s
	if number, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return 0, bad
		}
		days, rest = int64(n), after
		if days > int64(math.MaxInt64/day)-1 {
			return 0, fmt.Errorf("%q is too long: at most %d days", s, math.MaxInt64/day-1)
		}
	}
	var d time.Duration
	if rest != "" || s == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, bad
		}
	}
	if days > 0 && (d < 0 || d >= 365*day || strings.HasPrefix(rest, "+")) {
		return 0, bad
	}
	if d += time.Duration(days) * day; d <= 0 {
		return 0, fmt.Errorf("%q is not above zero: leave the key out for no limit", s)
	}
	return d, nil
}

// size returns the value of e in bytes.
func (r *reader) size(e entry, least, most int64) (int64, bool) {
	s, ok := r.text(e, "64MiB")
	if !ok {
		return 0, false
	}
	n, err := parseSize(s)
	switch {
	case err != nil:
		r.failf(e.line, "%s: %v", e.key, err)
	case n < least || n > most:
		r.failf(e.line, "%s = %q is not within %s to %s", e.key, s, formatSize(least), formatSize(most))
	default:
		return n, true
	}
	return 0, false
}

var sizeUnits = []struct {
	word  string
	bytes int64
}{{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// parseSize reads a whole number with one of the units B, KiB, MiB and GiB.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "BKMGTiabcdefgkmt ")
	unit := s[len(digits):]
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf(`%q is no size: write one such as "64KiB", "64MiB" or "1GiB"`, s)
	}
	var words []string
	for _, u := range sizeUnits {
		if u.word == unit {
			return int64(n) * u.bytes, nil // below 2^32 * 2^30
		}
		words = append(words, u.word)
	}
	if len(unit) == 2 && strings.ContainsAny(unit[:1], "KMG") { // KB: powers of 1000 or of 1024?
		return 0, fmt.Errorf("%q has an ambiguous unit; did you mean %q?", s, digits+unit[:1]+"iB")
	}
	return 0, fmt.Errorf("%q has no unit of %s", s, strings.Join(words, ", "))
}

func formatSize(n int64) string {
	for i := len(sizeUnits) - 1; i > 0; i-- {
		if u := sizeUnits[i]; n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.word
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}
