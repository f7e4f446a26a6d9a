package authz

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	maxDiffLines = 1024
	maxDiffLine  = 1000 // bytes
)

// Diff says what p changes against old, one line per fact: the whitelist, the
// settings, the limits, the guard, then denies and rules by their names. nil means that
// nothing changed that decides anything. Whether lockerd started itself anew for
// a setting is not said here; where it listens and keeps its state no reload
// changes, and those lines say so.
func (p *Policy) Diff(old *Policy) []string {
	if old == nil {
		old = &Policy{Limits: p.Limits, Server: p.Server, Audit: p.Audit}
	}
	var lines []string
	add := func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if len(line) > maxDiffLine {
			line = strings.ToValidUTF8(line[:maxDiffLine], "") + "…"
		}
		lines = append(lines, line)
	}
	list := func(name string, before, after []string) {
		for _, entry := range after {
			if !slices.Contains(before, entry) {
				add("%s: %q added", name, entry)
			}
		}
		for _, entry := range before {
			if !slices.Contains(after, entry) {
				add("%s: %q removed", name, entry)
			}
		}
	}
	list("allow", old.Allow, p.Allow)
	setting := func(name, before, after string) {
		if before != after {
			add("%s: %s → %s", name, before, after)
		}
	}
	place := func(name, before, after string) {
		if before != after {
			add("%s: %s → %s (not before lockerd is stopped and started)", name, before, after)
		}
	}
	a, b := &old.Server, &p.Server
	place("socket", a.Socket, b.Socket)
	setting("socket_mode", fmt.Sprintf("%04o", a.SocketMode), fmt.Sprintf("%04o", b.SocketMode))
	setting("socket_group", a.group(), b.group())
	place("state_dir", a.StateDir, b.StateDir)
	setting("segment_size", formatSize(old.Audit.SegmentSize), formatSize(p.Audit.SegmentSize))
	before, after := old.Limits, p.Limits // copies: keys hands out pointers
	was, is := before.keys(), after.keys()
	for i := range is {
		if *was[i].field != *is[i].field {
			add("limit %s: %d → %d", is[i].key, *was[i].field, *is[i].field)
		}
	}
	if before.UnsentAll != after.UnsentAll {
		add("limit unsent: %s → %s", formatSize(before.UnsentAll), formatSize(after.UnsentAll))
	}
	list("guard", old.Guard, p.Guard)
	if old.standalone != p.standalone {
		add("policy file: %q → %q", old.File, p.File)
	}
	diffRules(add, old.denies, p.denies)
	diffRules(add, old.rules, p.rules)
	if len(lines) > maxDiffLines {
		left := len(lines) - maxDiffLines + 1
		lines = append(lines[:maxDiffLines-1], fmt.Sprintf("and %d more changes", left))
	}
	return lines
}

func (s *Server) group() string {
	if !s.HasSocketGroup {
		return "none"
	}
	return fmt.Sprint(s.SocketGroup)
}

// diffRules compares rules of one kind by name. Those without a name have only
// their content to be known by.
func diffRules(add func(string, ...any), old, now []rule) {
	index := func(list []rule) map[string]*rule {
		m := make(map[string]*rule, len(list))
		for i := range list {
			m[list[i].identity()] = &list[i]
		}
		return m
	}
	was, is := index(old), index(now)
	for i := range now {
		r := &now[i]
		if before, ok := was[r.identity()]; !ok {
			add("%s added", r.title())
		} else if keys := r.changed(before); len(keys) > 0 {
			add("%s changed: %s", r.title(), strings.Join(keys, ", "))
		}
	}
	for i := range old {
		if _, ok := is[old[i].identity()]; !ok {
			add("%s removed", old[i].title())
		}
	}
}

func (r *rule) identity() string {
	if r.named {
		return "name " + r.name
	}
	return fmt.Sprint("content ", r.everyone, r.uids, r.gids, r.texts(), r.can,
		r.maxHold, r.maxWait, r.holds, r.engines, r.hardlinks, r.quiet)
}

func (r *rule) title() string {
	kind := "rule"
	if r.deny {
		kind = "deny"
	}
	if r.named {
		return fmt.Sprintf("%s %q", kind, r.name)
	}
	return fmt.Sprintf("%s for %q", kind, r.texts())
}

// texts returns the rule's paths as they stand in the file, sorted: their order
// does not matter.
func (r *rule) texts() []string {
	var texts []string
	for _, t := range r.paths {
		texts = append(texts, t.text)
	}
	slices.Sort(texts)
	return texts
}

// changed lists the keys in which r is not what before was, with the old and the
// new value where they are short.
func (r *rule) changed(before *rule) []string {
	var keys []string
	if r.everyone != before.everyone || !slices.Equal(r.uids, before.uids) {
		keys = append(keys, "users")
	}
	if !slices.Equal(r.gids, before.gids) {
		keys = append(keys, "groups")
	}
	if !slices.Equal(r.texts(), before.texts()) {
		keys = append(keys, "paths")
	}
	compare := func(key, was, is string) {
		if was != is {
			keys = append(keys, fmt.Sprintf("%s %s → %s", key, was, is))
		}
	}
	compare("max_hold", limitText(before.maxHold), limitText(r.maxHold))
	compare("max_wait", limitText(before.maxWait), limitText(r.maxWait))
	compare("holds", limitText(before.holds), limitText(r.holds))
	compare("engines", before.engines.String(), r.engines.String())
	compare("hardlinks", fmt.Sprint(before.hardlinks), fmt.Sprint(r.hardlinks))
	compare("quiet", limitText(before.quiet), limitText(r.quiet))
	compare("can", strings.Join(before.can.words(), " "), strings.Join(r.can.words(), " "))
	return keys
}

func limitText[N int | time.Duration](n N) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}
