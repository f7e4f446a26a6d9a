package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// finding is a fault that was found; the first one ends a run.
type finding struct {
	kind string // see doc.go
	text string
}

var errFound = errors.New("found")

// report takes the first finding.
func (r *run) report(f finding) {
	r.finding.Do(func() {
		r.first = f
		r.said("FOUND: %s", f.kind)
		r.fail(errFound)
	})
}

// describe prints the finding with all that is known.
func (r *run) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.first.kind, r.first.text)
	fmt.Fprintf(&b, "round %q, seed %d (LOCKER_TORTURE_SEED), seeded bug %q\n", r.round, r.seed, r.bug)
	fmt.Fprintf(&b, "time line, seconds:\n%s\n", r.last())
	fmt.Fprintf(&b, "broker.log, keeper.log, clients.log, events and histories are in %s, the audit log in %s\n", r.dir, r.audit())
	return b.String()
}

// judge reads what clients and prober find until ctx ends.
func (r *run) judge(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var seen uint64
	for n := 1; ; n++ {
		if n%50 == 0 {
			r.makeRoom()
		}
		if n := r.m.events.Load(); n != seen || len(r.pending) > 0 {
			seen = n
			r.judgeAll()
			if len(r.pending) > 0 && r.settled(ctx) == nil {
				r.judgeAll()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// makeRoom reads the log and removes what was read, if it has grown: each start makes a segment.
func (r *run) makeRoom() {
	most := 200
	if r.policy == "" {
		most = 8 // large ones
	}
	names, err := filepath.Glob(filepath.Join(r.audit(), "seg-*"))
	if err != nil || len(names) < most {
		return
	}
	if _, err := r.log.read(); err != nil {
		r.report(finding{kind: "log", text: err.Error()})
		return
	}
	r.log.prune()
}

// judgeAll decides about all events that can be decided about.
func (r *run) judgeAll() {
	events, offset, err := readEvents(r.events, r.offset)
	if err != nil {
		r.report(finding{kind: "end", text: err.Error()})
		return
	}
	r.offset = offset
	events = append(r.pending, events...)
	r.pending = nil
	for _, e := range events {
		if !r.decide(e) {
			r.pending = append(r.pending, e)
		}
	}
}

// decide makes a finding of an event, or not; false: it is too early to say.
func (r *run) decide(e event) bool {
	t := r.tally(r.round)
	kind := e.Kind
	if slices.Contains(strings.Split(os.Getenv("LOCKER_TORTURE_LET_PASS"), ","), kind) { // to look behind a fault that is known
		r.said("let pass: %s: %s", kind, e.Text)
		t.found("let pass")
		return true
	}
	switch e.Kind {
	case eventRefused:
		r.said("a client was refused: %s", e.Text)
		return true
	case eventLost, eventLoss, eventMissing:
		both, ok := r.bothDead(e.Since, e.At)
		if !ok {
			return false
		}
		if both {
			t.excused(e)
			return true
		}
		kind = map[string]string{eventLost: "lost", eventLoss: "resume", eventMissing: "lost"}[e.Kind]
	case eventDouble:
		both, ok := r.bothDead(e.Since, e.At)
		if !ok {
			return false
		}
		// An outsider was quicker, and a detached hold has nobody who could be told. It is no double grant: the log gave it up first.
		if both && e.Other.detached() && r.log.lost(e.Their) {
			t.excused(e)
			return true
		}
	case eventUnsaid:
		if r.brokerDied(e.Since, e.At) {
			return true // it was sent again, and had been done
		}
		kind = "lost"
	case eventError, eventAlready:
		kind = "resume"
	}
	t.found(kind)
	at := func(ns int64) float64 { return float64(ns-r.begun) / 1e9 }
	text := fmt.Sprintf("%s: %s\n  at %.6f, about something that began at %.6f\n  %v, token %d", fileName(e.File), e.Text, at(e.At), at(e.Since), e.Mine, e.Token)
	if e.Other != 0 {
		text += fmt.Sprintf("\n  and %v, token %d", e.Other, e.Their)
	}
	r.report(finding{kind: kind, text: text})
	return true
}
