package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"locker/audit"
)

// defaultState is where a lockerd of root's keeps its state.
const defaultState = "/var/lib/locker"

func (c *cli) auditCommand() *cobra.Command {
	return c.group("audit", wordsAudit, c.auditShow(), c.auditVerify())
}

// auditDir gives the log's directory below a state directory.
func auditDir(state string) (string, error) {
	state, err := absolute(state)
	return filepath.Join(state, "audit"), err
}

// readable adds a hint to what an unreadable log says.
func readable(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return &hinted{err, []string{hintAudit}}
	}
	return err
}

// filterFlags are the flags of 'audit show' as typed.
type filterFlags struct {
	user, path, since, until, seq string
	events                        []string
}

func (c *cli) auditShow() *cobra.Command {
	var state string
	var typed filterFlags
	cmd := c.command("show [--user U] [--path P] [--event E,...] [--since T] [--until T] [--seq N[-M]] [--json]",
		wordsShow, wordsShowLong, func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return &usageError{text: wordsNoArguments}
			}
			f, err := typed.filter(time.Now())
			if err != nil {
				return err
			}
			dir, err := auditDir(state)
			if err != nil {
				return err
			}
			return readable(audit.Read(dir, f, func(line []byte, r *audit.Record) error {
				if c.json {
					c.out.Write(line)
				} else {
					c.out.WriteString(recordLine(r))
				}
				return c.out.WriteByte('\n') // an error of any of them comes out here
			}))
		})
	f := cmd.Flags()
	f.StringVar(&state, "state-dir", defaultState, flagState)
	f.StringVar(&typed.user, "user", "", flagWho)
	f.StringVar(&typed.path, "path", "", flagPath)
	f.StringSliceVar(&typed.events, "event", nil, flagEvent)
	f.StringVar(&typed.since, "since", "", flagSince)
	f.StringVar(&typed.until, "until", "", flagUntil)
	f.StringVar(&typed.seq, "seq", "", flagSeq)
	f.BoolVar(&c.json, "json", false, flagRaw)
	return cmd
}

// filter makes audit's filter of what was typed.
func (t *filterFlags) filter(now time.Time) (f audit.Filter, err error) {
	if t.user != "" {
		if uid, err := strconv.ParseUint(t.user, 10, 32); err == nil {
			f.UID, f.HasUID = uint32(uid), true
		} else {
			f.User = t.user
		}
	}
	if t.path != "" {
		if f.Path, err = absolute(t.path); err != nil {
			return f, err
		}
		f.Below = true
	}
	for _, e := range t.events {
		if !slices.Contains(events(), audit.Event(e)) {
			return f, &usageError{text: sayBadEvent(e)}
		}
		f.Events = append(f.Events, audit.Event(e))
	}
	if t.seq != "" {
		first, last, isRange := strings.Cut(t.seq, "-")
		f.First, err = strconv.ParseUint(first, 10, 64)
		f.Last = f.First
		if err == nil && isRange {
			f.Last, err = strconv.ParseUint(last, 10, 64)
		}
		if err != nil || f.First == 0 || f.Last < f.First {
			return f, &usageError{text: sayBadSeq(t.seq)}
		}
	}
	if f.Since, err = moment("since", t.since, now); err != nil {
		return f, err
	}
	f.Until, err = moment("until", t.until, now)
	return f, err
}

// events gives all that the log can hold: a misspelt one would silently find nothing.
func events() []audit.Event {
	return []audit.Event{
		audit.EventStart, audit.EventStop, audit.EventPolicy, audit.EventPolicyRefused, audit.EventConnectRefused,
		audit.EventGrant, audit.EventDeny, audit.EventWait, audit.EventTimeout, audit.EventCancel, audit.EventRelease,
		audit.EventExpire, audit.EventBreak, audit.EventDeath, audit.EventResume, audit.EventLost, audit.EventCleared,
		audit.EventGap, audit.EventRecovered, audit.EventSuppressed, audit.EventRotate, audit.EventCheckpoint, audit.EventHeld,
	}
}

// moment reads a point in time; "" is none.
func moment(flag, value string, now time.Time) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(value); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, value, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &usageError{text: sayBadTime(flag, value)}
}

func (c *cli) auditVerify() *cobra.Command {
	var state string
	cmd := c.command("verify [--state-dir DIR] [--json]", wordsVerify, wordsVerifyLong,
		func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return &usageError{text: wordsNoArguments}
			}
			dir, err := auditDir(state)
			if err != nil {
				return err
			}
			report, err := audit.Verify(dir)
			if err != nil {
				return readable(err)
			}
			if c.json {
				c.printJSON(reportObject(&report))
			} else {
				c.printReport(&report)
			}
			if len(report.Problems) > 0 {
				return statusError(exitFailure)
			}
			return nil
		})
	cmd.Flags().StringVar(&state, "state-dir", defaultState, flagState)
	cmd.Flags().BoolVar(&c.json, "json", false, flagJSON)
	return cmd
}

func (c *cli) printReport(r *audit.Report) {
	for _, p := range r.Problems {
		fmt.Fprintln(c.out, sayProblem(wordProblem, p))
	}
	for _, p := range r.Notes {
		fmt.Fprintln(c.out, sayProblem(wordNote, p))
	}
	fmt.Fprintln(c.out, sayReport(r))
}

func reportObject(r *audit.Report) *object {
	o := &object{}
	o.open('{')
	o.fact("intact", len(r.Problems) == 0)
	o.number("segments", uint64(r.Segments))
	o.number("records", uint64(r.Records))
	o.number("first", r.First)
	o.number("last", r.Last)
	o.text("head", r.Head)
	o.number("holds", uint64(r.Holds))
	o.fact("clean", r.Clean)
	for _, part := range []struct {
		name string
		list []audit.Problem
	}{{"problems", r.Problems}, {"notes", r.Notes}} {
		o.key(part.name)
		o.open('[')
		for _, p := range part.list {
			o.open('{')
			o.path("segment", p.Segment)
			o.number("line", uint64(p.Line))
			o.number("seq", p.Seq)
			o.text("text", p.Text)
			o.close('}')
		}
		o.close(']')
	}
	o.close('}')
	return o
}
