package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"locker/audit"
)

// defaultState is where a lockerd of root's keeps its state.
const defaultState = "/var/lib/locker"

func (c *cli) auditCommand() *cobra.Command {
	return c.group("audit", wordsAudit, c.auditShow(), c.auditVerify())
}

// stateFlag adds --state-dir, and gives what finds the log's directory when the command line is read.
func stateFlag(f *pflag.FlagSet) (auditDir func() (string, error)) {
	var state string
	f.StringVar(&state, "state-dir", defaultState, flagState)
	return func() (string, error) {
		if !f.Changed("state-dir") {
			return defaultAudit(filepath.Join(defaultState, "audit"), os.Geteuid(), os.Getenv), nil
		}
		dir, err := absolute(state)
		return filepath.Join(dir, "audit"), err
	}
}

// defaultAudit gives the log of the system's lockerd or, for somebody who cannot read that, of the one that he runs himself:
// lockerd looks for its state at the same places.
func defaultAudit(system string, euid int, getenv func(string) string) string {
	if euid == 0 || unix.Access(system, unix.R_OK|unix.X_OK) == nil {
		return system
	}
	home := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(home) { // to be ignored: the XDG specification
		if home = getenv("HOME"); !filepath.IsAbs(home) {
			return system
		}
		home = filepath.Join(home, ".local/state")
	}
	own := filepath.Join(home, "locker/audit")
	if info, err := os.Stat(own); err != nil || !info.IsDir() {
		return system
	}
	return own
}

// readable adds a hint to what an unreadable log says.
func readable(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &hinted{err, []string{hintAudit}}
	case errors.Is(err, fs.ErrNotExist):
		return &hinted{err, []string{hintNoLog}}
	}
	return err
}

// filterFlags are the flags of 'audit show' as typed.
type filterFlags struct {
	user, path, since, until, seq string
	events                        []string
}

func (c *cli) auditShow() *cobra.Command {
	var auditDir func() (string, error)
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
			dir, err := auditDir()
			if err != nil {
				return err
			}
			some := false
			err = audit.Read(dir, f, func(line []byte, r *audit.Record) error {
				some = true
				if c.json {
					c.out.Write(line)
				} else {
					c.out.WriteString(recordLine(r))
				}
				return c.out.WriteByte('\n') // an error of any of them comes out here
			})
			if err == nil && !some && f.User != "" {
				if err = knownUser(dir, f.User); err == errNoRecord {
					c.say.line(sayNoRecord(f.User)) // perhaps misspelt
					err = nil
				}
			}
			return readable(err)
		})
	f := cmd.Flags()
	auditDir = stateFlag(f)
	f.StringVar(&typed.user, "user", "", flagWho)
	f.StringVar(&typed.path, "path", "", flagPath)
	f.StringSliceVar(&typed.events, "event", nil, flagEvent)
	f.StringVar(&typed.since, "since", "", flagSince)
	f.StringVar(&typed.until, "until", "", flagUntil)
	f.StringVar(&typed.seq, "seq", "", flagSeq)
	f.BoolVar(&c.json, "json", false, flagRaw)
	return cmd
}

var (
	errNoRecord = errors.New("no record")
	errRecord   = errors.New("a record")
)

// knownUser gives errNoRecord when no record at all is about the user of this name.
func knownUser(dir, user string) error {
	err := audit.Read(dir, audit.Filter{User: user}, func([]byte, *audit.Record) error { return errRecord })
	switch err {
	case nil:
		return errNoRecord
	case errRecord:
		return nil
	}
	return err
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
		audit.EventGap, audit.EventRecovered, audit.EventSuppressed, audit.EventAltered, audit.EventKeeper, audit.EventGuard, audit.EventRotate, audit.EventCheckpoint, audit.EventHeld,
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
	var auditDir func() (string, error)
	cmd := c.command("verify [--state-dir DIR] [--json]", wordsVerify, wordsVerifyLong,
		func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return &usageError{text: wordsNoArguments}
			}
			dir, err := auditDir()
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
	auditDir = stateFlag(cmd.Flags())
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
