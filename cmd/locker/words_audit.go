package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"locker/audit"
)

// The words of 'locker audit': the rest of words.go.

const (
	wordProblem = "problem"
	wordNote    = "note"
)

// recordLine words one record: when, its number, what, who, which file, and the rest as name=value.
func recordLine(r *audit.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %s", r.Time.Local().Format("2006-01-02 15:04:05.000"), r.Seq, r.Event)
	if r.Peer {
		b.WriteString(" " + recordPeer(r))
	}
	if r.Path != "" {
		b.WriteString(" " + shown(r.Path))
	}
	text := func(name, value string) {
		if value != "" {
			b.WriteString(" " + name + "=" + word(value))
		}
	}
	number := func(name string, n uint64) {
		if n != 0 {
			text(name, strconv.FormatUint(n, 10))
		}
	}
	span := func(name string, d time.Duration) {
		if d >= time.Millisecond {
			text(name, lasting(d))
		}
	}
	if r.ID != r.Seq {
		number("id", r.ID)
	}
	text("command", r.Command)
	text("target", r.Target)
	text("mode", r.Mode)
	text("rests", strings.Join(r.Rests, ","))
	text("life", r.Life)
	text("tag", r.Tag)
	text("rule", r.Rule)
	text("reason", r.Reason)
	text("code", r.Code)
	if r.Event == audit.EventAltered || !r.Altered.IsZero() {
		text("altered", recordAltered(r))
		rest := *r
		rest.Text, rest.Count = "", 0
		r = &rest
	}
	text("text", r.Text)
	text("by", r.By)
	span("waited", r.Waited)
	span("held", r.Held)
	span("grace", r.Grace)
	if !r.Expires.IsZero() {
		text("expires", r.Expires.UTC().Format(time.RFC3339))
	}
	number("count", r.Count)
	number("first", r.First)
	number("last", r.Last)
	text("sha256", r.SHA256)
	if r.Gap > 0 { // however short: others could have had the file
		text("gap", r.Gap.String())
	}
	text("boot_id", r.BootID)
	return b.String()
}

// recordPeer words who did it.
func recordPeer(r *audit.Record) string {
	name := "uid " + strconv.FormatUint(uint64(r.UID), 10)
	var facts []string
	if r.User != "" {
		facts = append(facts, name)
		name = shown(r.User)
	}
	if r.HasLogin && r.LoginUID != r.UID {
		facts = append(facts, "logged in as uid "+strconv.FormatUint(uint64(r.LoginUID), 10))
	}
	if r.PID > 0 {
		facts = append(facts, "pid "+strconv.Itoa(int(r.PID)))
	}
	return name + parenthesis(facts)
}

// word shows a value behind name=: quoted also when it has a space, so that one sees where it ends.
func word(s string) string {
	t := shown(s)
	if t == s && strings.ContainsAny(s, " =") {
		return `"` + s + `"`
	}
	return t
}

func sayBadEvent(value string) string {
	var all []string
	for _, e := range events() {
		all = append(all, string(e))
	}
	return "--event " + strconv.Quote(value) + ": want one or more of " + strings.Join(all, ", ")
}

func sayNoRecord(user string) string { return "no record is about user " + shown(user) }

func sayProblem(kind string, p audit.Problem) string {
	where := orDash(p.Segment)
	if p.Line > 0 {
		where += " line " + strconv.Itoa(p.Line)
	}
	if p.Seq > 0 {
		where += ", record " + strconv.FormatUint(p.Seq, 10)
	}
	return kind + ": " + where + ": " + sentence(p.Text)
}

func sayReport(r *audit.Report) string {
	state := "intact"
	if n := len(r.Problems); n > 0 {
		state = "damaged, problems: " + strconv.Itoa(n)
	}
	clean := "lockerd is running, or did not stop cleanly"
	if r.Clean {
		clean = "lockerd stopped cleanly"
	}
	return fmt.Sprintf("%s: %d records (%d to %d) in %d segments, %d holds, %s; head %s",
		state, r.Records, r.First, r.Last, r.Segments, r.Holds, clean, r.Head)
}
