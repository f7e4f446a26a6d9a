package authz

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

const (
	maxFile     = 1 << 20 // bytes
	maxRules    = 1024    // and as many denies
	maxName     = 128     // bytes of a rule's name
	maxPaths    = 64      // of a rule: as many as a frame may carry in one list
	maxProblems = 10      // reported at once
	maxProblem  = 400     // bytes of one
	manyProblem = 100     // then it is no use to go on
)

// tableOrder is the order that a policy keeps, so that a file cut short has lost
// rules and never a deny. "" holds allow.
var tableOrder = []string{"", "server", "audit", "limits", "guard", "deny", "rule"}

// Parse makes a policy of a file's text. The error holds up to ten lines, each
// "file:line: what is wrong". u is asked for ids and names and not kept.
func Parse(file string, text []byte, u Users) (*Policy, error) {
	r := &reader{file: file, policy: &Policy{File: file, Limits: DefaultLimits()}}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s:1: larger than %d bytes", file, maxFile)
	}
	tables, p := decode(text)
	if p != nil {
		r.problems = append(r.problems, *p)
		return nil, r.err()
	}
	u, names, err := snapshot(u)
	if err != nil {
		return nil, fmt.Errorf("%s:1: user database: %w", file, err)
	}
	r.policy.names = maps.Clone(names)
	r.resolve = newResolver(u, names)
	sum := sha256.Sum256(text)
	r.policy.SHA256 = hex.EncodeToString(sum[:])
	r.read(tables)
	if len(r.problems) > 0 {
		return nil, r.err()
	}
	return r.policy, nil
}

// snapshot reads the user database.
func snapshot(u Users) (Users, map[uint32]string, error) {
	if s, ok := u.(snapshotter); ok {
		var err error
		if u, err = s.Snapshot(); err != nil {
			return nil, nil, err
		}
	}
	names, err := u.Names()
	return u, names, err
}

// decode scans the text, lets the TOML library decode it, and joins the two.
func decode(text []byte) ([]table, *problem) {
	tables, p := scan(text)
	if p != nil {
		return nil, p
	}
	if p := checkShape(tables); p != nil {
		return nil, p
	}
	var values map[string]any
	if _, err := toml.Decode(string(text), &values); err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return nil, &problem{max(1, parse.Position.Line), parse.Message}
		}
		return nil, &problem{1, err.Error()}
	}
	return tables, join(tables, values)
}

// checkShape checks names, repetition and order of tables, and that no key is
// given twice.
func checkShape(tables []table) *problem {
	first := map[string]int{}
	for i, t := range tables {
		if i > 0 {
			if p := checkTable(t, tables[i-1], first); p != nil {
				return p
			}
			if _, again := first[t.name]; !again {
				first[t.name] = t.line
			}
		}
		keys := map[string]int{}
		for _, e := range t.entries {
			if line, again := keys[e.key]; again {
				return problemf(e.line, "%q is given twice: first on line %d", e.key, line)
			}
			keys[e.key] = e.line
		}
	}
	return nil
}

func checkTable(t, before table, first map[string]int) *problem {
	rank := slices.Index(tableOrder, t.name)
	line, again := first[t.name]
	repeated := t.name == "rule" || t.name == "deny"
	switch {
	case rank < 0:
		return problemf(t.line, "unknown table %q%s", t.name, suggest(t.name, tableOrder[1:], "tables are"))
	case repeated && !t.array:
		return problemf(t.line, "write [[%s]] with two brackets", t.name)
	case !repeated && t.array:
		return problemf(t.line, "write [%s] with one bracket", t.name)
	case !repeated && again:
		return problemf(t.line, "[%s] is given twice: first on line %d", t.name, line)
	case rank < slices.Index(tableOrder, before.name):
		return problemf(t.line, "%q comes after %q (line %d): the order is allow, %s", t.name,
			before.name, before.line, strings.Join(tableOrder[1:], ", "))
	}
	return nil
}

// join puts the library's values into the scanned tables. Every value must be
// found at its place and nothing may be left over.
func join(tables []table, values map[string]any) *problem {
	seen := map[string]int{} // arrays of tables: how many so far
	count := 0
	for i := range tables {
		t := &tables[i]
		from := values
		if t.name != "" {
			var ok bool
			if t.array {
				list, _ := values[t.name].([]map[string]any)
				n := seen[t.name]
				if ok = n < len(list); ok {
					from = list[n]
				}
				seen[t.name]++
			} else {
				from, ok = values[t.name].(map[string]any)
			}
			if !ok {
				return problemf(t.line, "table %q cannot be followed: write it plainly", t.name)
			}
		}
		for k := range t.entries {
			e := &t.entries[k]
			v, ok := from[e.key]
			list, isList := v.([]any)
			if !ok || isList != (e.items != nil) || len(list) != len(e.items) {
				return problemf(e.line, "%q cannot be followed: write it plainly", e.key)
			}
			e.value = v
			count++
		}
	}
	if count != countValues(values) {
		return problemf(1, "the file cannot be followed: write it plainly")
	}
	return nil
}

// countValues counts the keys with a value that is no table.
func countValues(values map[string]any) int {
	n := 0
	for _, v := range values {
		switch v := v.(type) {
		case map[string]any:
			n += countValues(v)
		case []map[string]any:
			for _, m := range v {
				n += countValues(m)
			}
		default:
			n++
		}
	}
	return n
}

// reader turns tables into a policy and collects what is wrong with them.
type reader struct {
	file     string
	policy   *Policy
	resolve  *resolver
	problems []problem
}

func (r *reader) failf(line int, format string, args ...any) {
	r.problems = append(r.problems, *problemf(line, format, args...))
}

// err joins the first problems in the order of their lines.
func (r *reader) err() error {
	sort.SliceStable(r.problems, func(i, k int) bool { return r.problems[i].line < r.problems[k].line })
	var errs []error
	for i, p := range r.problems {
		if i == maxProblems {
			least := ""
			if len(r.problems) >= manyProblem {
				least = "at least "
			}
			errs = append(errs, fmt.Errorf("%s:%d: and %s%d more", r.file, p.line, least, len(r.problems)-i))
			break
		}
		if len(p.text) > maxProblem {
			p.text = strings.ToValidUTF8(p.text[:maxProblem], "") + "…"
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s", r.file, p.line, p.text))
	}
	return errors.Join(errs...)
}
