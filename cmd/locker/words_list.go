package main

import (
	"strconv"
	"strings"
	"time"

	"locker/client"
)

// The words of 'locker list', 'status' and 'policy': the rest of words.go.

const (
	stateHeld    = "held"
	stateEnding  = "ending"
	stateWaits   = "waits "
	stateOrphan  = "orphan" // held, and its client has not come back yet to a lockerd that was restarted, or the log does not know it
	stateLost    = "lost"
	stateOutside = "outside" // a program that does not go through lockerd has it locked, or open
)

// listNote is the last column of a list: the reason, and what is odd about the row.
func listNote(r client.Row, now time.Time) string {
	var notes []string
	if r.Tag != "" {
		notes = append(notes, "tag "+shown(r.Tag))
	}
	if !r.Expires.IsZero() {
		notes = append(notes, "until "+clock(r.Expires, now))
	}
	if r.Stale {
		notes = append(notes, "the path leads to another file now")
	}
	if note := alteredNote(r, now); note != "" {
		notes = append(notes, note)
	}
	if r.Altered.Lapsed {
		notes = append(notes, noteLapsed)
	}
	if r.Altered.Unwatched {
		notes = append(notes, noteUnwatched)
	}
	if r.Outlawed {
		notes = append(notes, "the policy would not grant it now")
	}
	note := ""
	if len(notes) > 0 {
		note = "[" + strings.Join(notes, "; ") + "]"
	}
	if r.Reason == "" {
		return note
	}
	if note != "" {
		note += " "
	}
	return note + shown(r.Reason)
}

// statusRows words a Status, a line of name and value each.
func statusRows(s *client.Status, g guarding, now time.Time) [][]string {
	policy := orDash(s.PolicyFile)
	if s.PolicyFile == "" {
		policy = "none: only root and the user who runs lockerd may use it"
	}
	audit := "healthy"
	if s.AuditError != "" {
		audit = "no grants: " + sentence(s.AuditError)
	}
	rows := [][]string{
		{"lockerd", orDash(s.Server)},
		{"pid", pids(s)},
		{"up", lasting(now.Sub(s.Started)) + ", since " + clock(s.Started, now)},
		{"policy", policy},
	}
	if s.PolicyFile != "" {
		rows = append(rows,
			[]string{"  rules", strconv.FormatUint(uint64(s.Rules), 10)},
			[]string{"  loaded", clock(s.PolicyLoaded, now)},
			[]string{"  sha256", orDash(s.PolicySHA256)})
	}
	if s.PolicyError != "" {
		name := "  refused"
		for _, line := range sentences(s.PolicyError) {
			rows = append(rows, []string{name, line})
			name = ""
		}
	}
	n := func(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
	return append(rows,
		[]string{"holds", n(s.Holds)}, []string{"waiters", n(s.Waiters)}, []string{"connections", n(s.Connections)},
		[]string{"lost", n(s.Lost)}, []string{"guard", g.words()}, []string{"audit", audit},
		[]string{"  segment", orDash(s.AuditSegment)}, []string{"  record", strconv.FormatUint(s.AuditSeq, 10)})
}

func pids(s *client.Status) string {
	text := strconv.Itoa(int(s.BrokerPID))
	if s.KeeperPID > 0 {
		text += ", keeper " + strconv.Itoa(int(s.KeeperPID))
	}
	return text
}

// limitRows words the limits; the first row is the head.
func limitRows(limits []client.Limit) [][]string {
	rows := [][]string{{"LIMIT", "YOU", "OF", "ALL", "OF"}}
	bound := func(n uint64) string { return numberOrDash(n) }
	used := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for _, l := range limits {
		rows = append(rows, []string{orDash(l.Name), used(l.Used), bound(l.PerUID), used(l.UsedAll), bound(l.All)})
	}
	return rows
}

// allowanceRow words one thing that we may lock.
func allowanceRow(a client.Allowance, path string) []string {
	limit := func(d time.Duration) string {
		if d == 0 {
			return "-"
		}
		return lasting(d)
	}
	return []string{
		shown(path), orDash(strings.Join(a.Can, ",")), limit(a.MaxHold), limit(a.MaxWait), numberOrDash(uint64(a.Holds)),
		orDash(strings.Join(a.Engines, ",")), limit(a.Quiet),
	}
}

func allowanceHead() []string {
	return []string{"PATH", "CAN", "MAX-HOLD", "MAX-WAIT", "HOLDS", "ENGINES", "QUIET"}
}

func sayDecision(e *client.Explanation) string {
	word := "denied: "
	if e.Allowed {
		word = "allowed: "
	}
	return word + sentence(e.By)
}

func sayOther(other string) string { return "  not: " + sentence(other) }
