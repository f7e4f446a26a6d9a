package authz

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// readRules reads all [[deny]] and [[rule]] tables.
func (r *reader) readRules(tables []table) {
	names := map[bool]map[string]int{true: {}, false: {}} // by deny: name → line
	counts := map[bool]int{}
	for _, t := range tables {
		if t.name != "rule" && t.name != "deny" {
			continue
		}
		if len(r.problems) >= manyProblem {
			return
		}
		deny := t.name == "deny"
		counts[deny]++
		if counts[deny] > maxRules {
			r.failf(t.line, "more than %d [[%s]] tables", maxRules, t.name)
			return
		}
		c := rule{
			name: fmt.Sprintf("%s %d", t.name, counts[deny]), line: t.line, deny: deny,
			engines: bothEngines,
		}
		r.readRule(t, &c)
		if c.named {
			if line, again := names[deny][c.name]; again {
				r.failf(t.line, "%q is the name of the %s on line %d, too", c.name, t.name, line)
			}
			names[deny][c.name] = t.line
		}
		if deny {
			c.engines = 0
			r.policy.denies = append(r.policy.denies, c)
		} else {
			r.policy.rules = append(r.policy.rules, c)
		}
	}
}

// readRule reads one table and checks that it has its subject, paths and, for a
// rule, can as its last key.
func (r *reader) readRule(t table, c *rule) {
	has := map[string]bool{}
	for i, e := range t.entries {
		has[e.key] = true
		known := r.readSubject(e, c)
		if !known && !c.deny {
			known = r.readGrant(e, c)
		}
		if !known && c.deny && slices.Contains(grantKeys, e.key) {
			r.failf(e.line, "%s does not belong into [[deny]]: a deny forbids every action", e.key)
		} else if !known {
			valid := subjectKeys
			if !c.deny {
				valid = slices.Concat(subjectKeys, grantKeys)
			}
			r.unknown(t, e, valid...)
		}
		if last := len(t.entries) - 1; e.key == "can" && !c.deny && i != last {
			r.failf(t.entries[last].line, "%s comes after can (line %d): can must be the last key of its rule",
				t.entries[last].key, e.line)
		}
	}
	if !has["users"] && !has["groups"] {
		r.failf(t.line, `[[%s]] has neither users nor groups: for everybody write users = ["*"]`, t.name)
	}
	if !has["paths"] {
		r.failf(t.line, "[[%s]] has no paths", t.name)
	}
	if !has["can"] && !c.deny {
		r.failf(t.line, `[[rule]] has no can: end it with one such as can = ["lock", "lock-shared"]`)
	}
}

var (
	subjectKeys = []string{"name", "users", "groups", "paths"}
	grantKeys   = []string{"max_hold", "max_wait", "holds", "engines", "hardlinks", "quiet", "can"}
)

// readSubject reads the keys that rules and denies share.
func (r *reader) readSubject(e entry, c *rule) (known bool) {
	switch e.key {
	case "name":
		r.readName(e, c)
	case "users":
		r.readUsers(e, c)
	case "groups":
		r.readGroups(e, c)
	case "paths":
		r.readPaths(e, c)
	default:
		return false
	}
	return true
}

// readGrant reads the keys that only rules have.
func (r *reader) readGrant(e entry, c *rule) (known bool) {
	switch e.key {
	case "max_hold":
		c.maxHold, _ = r.duration(e)
	case "max_wait":
		c.maxWait, _ = r.duration(e)
	case "holds":
		c.holds, _ = r.integer(e, 1<<20)
	case "hardlinks":
		b, ok := e.value.(bool)
		if !ok {
			r.failf(e.line, "hardlinks must be true or false, not %s", describe(e.value))
		}
		c.hardlinks = b
	case "quiet":
		c.quiet = r.readQuiet(e)
	case "engines":
		c.engines = Engines(r.words(e, engineWords[:], `["flock"]`))
	case "can":
		c.can = actions(r.words(e, actionWords[:], `["lock", "lock-shared"]`)) << 1
	default:
		return false
	}
	return true
}

// Less than a second is less than the clock of some file systems can tell, and more than an hour is no pause in somebody's work.
const (
	leastQuiet = time.Second
	mostQuiet  = time.Hour
)

func (r *reader) readQuiet(e entry) time.Duration {
	d, ok := r.duration(e)
	if ok && (d < leastQuiet || d > mostQuiet) {
		r.failf(e.line, "quiet = %q is not within %v to %v", e.value, leastQuiet, mostQuiet)
	}
	return d
}

// words reads a list of words into a set: bit i for the i-th valid word.
func (r *reader) words(e entry, valid []string, example string) (set uint8) {
	words, lines := r.strings(e, example)
	for k, w := range words {
		i := slices.Index(valid, w)
		if i < 0 {
			r.failf(lines[k], "unknown word %q in %s%s", w, e.key, suggest(w, valid, "words are"))
			continue
		}
		set |= 1 << i
	}
	return set
}

func (r *reader) readName(e entry, c *rule) {
	s, ok := r.text(e, "own bundles")
	if !ok {
		return
	}
	switch {
	case strings.TrimSpace(s) == "":
		r.failf(e.line, "name is empty")
	case len(s) > maxName:
		r.failf(e.line, "name is longer than %d bytes", maxName)
	case strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.failf(e.line, "name %q holds characters that cannot be printed", s)
	default:
		c.name, c.named = s, true
	}
}

func (r *reader) readUsers(e entry, c *rule) {
	items, _ := r.list(e, `["alice", 1001]`)
	for i, item := range items {
		if item == "*" {
			c.everyone = true
			continue
		}
		uid, err := r.resolve.uid(item)
		if err != nil {
			r.failf(e.items[i], "%v", err)
			continue
		}
		c.uids = append(c.uids, uid)
	}
	if c.everyone && len(items) > 1 {
		r.failf(e.line, `users: "*" stands for everybody: name nobody beside it`)
	}
	slices.Sort(c.uids)
	c.uids = slices.Compact(c.uids)
}

func (r *reader) readGroups(e entry, c *rule) {
	items, _ := r.list(e, `["backup", 34]`)
	for i, item := range items {
		gid, err := r.resolve.gid(item)
		if err != nil {
			r.failf(e.items[i], "%v", err)
			continue
		}
		c.gids = append(c.gids, gid)
	}
	slices.Sort(c.gids)
	c.gids = slices.Compact(c.gids)
}

func (r *reader) readPaths(e entry, c *rule) {
	paths, lines := r.strings(e, `["/srv/timemachine/{user}"]`)
	if len(paths) > maxPaths {
		r.failf(e.line, "more than %d paths in one rule", maxPaths)
	}
	for i, text := range paths {
		t, err := compile(text)
		if err != nil {
			r.failf(lines[i], "paths: %q: %v", text, err)
			continue
		}
		if !r.reachable(&t) {
			r.failf(lines[i], "paths: %q lies outside allow%s", text, suggest(text, r.policy.Allow, ""))
			continue
		}
		c.paths = append(c.paths, t)
	}
}

// reachable reports whether a pattern can match anything inside the whitelist. A
// path outside is a typing error, and a deny with one would forbid nothing.
func (r *reader) reachable(t *pattern) bool {
	fixed, whole := t.fixed()
	for _, root := range r.policy.Allow {
		if within(fixed, root) || !whole && (fixed == "" || within(root, fixed)) {
			return true
		}
	}
	return len(r.policy.Allow) == 0 // what is wrong with allow has been said
}
