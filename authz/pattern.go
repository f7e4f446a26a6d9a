package authz

import (
	"fmt"
	"strconv"
	"strings"
)

// pattern is a path of a rule: the path and everything below it.
type pattern struct {
	text  string // as in the file
	parts []part // one literal part when there is no template
}

// part is a run of bytes of a pattern. Parts never match across a '/' that they
// do not hold themselves: values that hold one match nothing.
type part struct {
	kind    partKind
	literal string
}

type partKind uint8

const (
	partLiteral partKind = iota + 1
	partUser             // {user}
	partUID              // {uid}
)

// compile turns a path with templates into a pattern. The path is clean; a value
// cannot make it unclean, since no value is ".", ".." or empty.
func compile(text string) (pattern, error) {
	if err := CheckPath(text); err != nil {
		return pattern{}, err
	}
	p := pattern{text: text}
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			p.parts = append(p.parts, part{kind: partLiteral, literal: rest})
			break
		}
		if i > 0 {
			p.parts = append(p.parts, part{kind: partLiteral, literal: rest[:i]})
			rest = rest[i:]
		}
		end := strings.IndexByte(rest, '}')
		if rest[0] == '}' || end < 0 {
			return pattern{}, fmt.Errorf("%q is no template: write {user} or {uid}", rest[:1])
		}
		switch word := rest[1:end]; word {
		case "user":
			p.parts = append(p.parts, part{kind: partUser})
		case "uid":
			p.parts = append(p.parts, part{kind: partUID})
		default:
			return pattern{}, fmt.Errorf("unknown template %q%s", rest[:end+1],
				suggest("{"+word+"}", []string{"{user}", "{uid}"}, "templates are"))
		}
		rest = rest[end+1:]
	}
	return p, nil
}

// covers reports whether the pattern, with the uid's values put in, is path or
// above it.
func (t *pattern) covers(p *Policy, uid uint32, path string) bool {
	rest := path
	for i := range t.parts {
		var ok bool
		switch t.parts[i].kind {
		case partLiteral:
			rest, ok = strings.CutPrefix(rest, t.parts[i].literal)
		case partUser:
			name := p.names[uid]
			rest, ok = strings.CutPrefix(rest, name)
			ok = ok && usableName(name)
		case partUID:
			rest, ok = cutUint(rest, uid)
		}
		if !ok {
			return false
		}
	}
	return rest == "" || rest[0] == '/'
}

// cutUint cuts the decimal digits of n off the front of s. It builds them on the
// stack: Decide allocates nothing.
func cutUint(s string, n uint32) (rest string, ok bool) {
	var buf [10]byte // 4294967295
	digits := strconv.AppendUint(buf[:0], uint64(n), 10)
	if len(s) < len(digits) || s[:len(digits)] != string(digits) {
		return s, false
	}
	return s[len(digits):], true
}

// usableName reports whether a user's name may stand for a part of a path. A
// name with a slash would reach into other prefixes; "." and ".." likewise.
func usableName(name string) bool {
	if name == "" || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c == '/' || c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// expand returns the path that the pattern is for this uid; ok is false when it
// is none.
func (t *pattern) expand(p *Policy, uid uint32) (path string, ok bool) {
	var b strings.Builder
	for _, part := range t.parts {
		switch part.kind {
		case partLiteral:
			b.WriteString(part.literal)
		case partUser:
			if !usableName(p.names[uid]) {
				return "", false
			}
			b.WriteString(p.names[uid])
		case partUID:
			b.WriteString(strconv.FormatUint(uint64(uid), 10))
		}
	}
	return b.String(), CheckPath(b.String()) == nil
}

// fixed returns the whole path of a pattern without templates, or the components
// before the first template ("" when the very first component has one). The first
// part is always a literal: it holds at least the leading slash.
func (t *pattern) fixed() (path string, whole bool) {
	first := t.parts[0].literal
	if len(t.parts) == 1 {
		return first, true
	}
	return first[:strings.LastIndexByte(first, '/')], false
}
