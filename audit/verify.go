package audit

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Report is what Verify found.
type Report struct {
	Segments, Records int    // read
	First, Last       uint64 // seq
	Head              string // hex SHA-256 of the last line: kept elsewhere, it shows a later cut
	Holds             int    // live at the end
	Clean             bool   // the last run ended with a stop record
	Problems          []Problem
	// Notes are what is explained and no damage: numbers never used after an unclean stop, records that no
	// answer depended on, a last line that is still being written.
	Notes []Problem
}

// Problem is one finding, at the place where it shows.
type Problem struct {
	Segment string
	Line    int    // 0: the segment as a whole
	Seq     uint64 // of the record it is about, 0: unknown
	Text    string
}

// Verify reads all segments in the directory and checks each line, the chain of hashes, the order of the
// numbers, each checkpoint against the sum of what came before, and each hold's life. An error says that it
// could not read; all that is wrong with the log is in Report.Problems.
//
// It needs no lockerd and works beside one. What nobody can see from the log alone: that its end was cut off
// at a line's end. Compare Head and Last with what was noted elsewhere.
func Verify(dir string) (Report, error) {
	fd, err := openDirFD(dir)
	if err != nil {
		return Report{}, err
	}
	defer unix.Close(fd)
	names, err := segments(fd, dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify audit log: %w", err)
	}
	v := &verifier{chain: chain{state: NewState(), trusted: true, hash: noHash()}}
	for i, name := range names {
		v.end = 1<<64 - 1
		if i+1 < len(names) {
			v.end, _ = segFirst(names[i+1])
		}
		if err := v.segment(fd, dir, name, i == len(names)-1); err != nil {
			return v.Report, err
		}
	}
	v.Segments = len(names)
	if v.Last > 0 {
		v.Head = string(v.hash[:])
	}
	v.Holds = v.state.Len()
	return v.Report, nil
}

// verifier walks through the log.
type verifier struct {
	Report
	chain
	name   string
	line   int
	end    uint64    // first number of the next segment
	behind []Problem // found behind the last record of a segment; the next segment may explain it
}

func (v *verifier) problem(seq uint64, format string, args ...any) {
	v.Problems = append(v.Problems, Problem{v.name, v.line, seq, fmt.Sprintf(format, args...)})
}

func (v *verifier) note(seq uint64, format string, args ...any) {
	v.Notes = append(v.Notes, Problem{v.name, v.line, seq, fmt.Sprintf(format, args...)})
}

// segment reads one file.
func (v *verifier) segment(dirfd int, dir, name string, newest bool) error {
	f, err := openSegment(dirfd, dir, name)
	if err != nil {
		return fmt.Errorf("verify audit log: %w", err)
	}
	defer f.Close()
	v.name, v.line, v.sealed = name, 0, false
	records, before := v.Records, v.behind
	v.behind = nil
	for in := newLines(f); ; {
		line, whole, err := in.read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("verify audit log: %w", err)
		}
		v.line = in.n
		if !whole && newest && unfinished(line) {
			v.note(v.Last+1, "the last line is not finished: lockerd is writing it, or died doing so")
			continue
		}
		r, err := ParseLine(line)
		switch {
		case !whole:
			v.left(v.Last+1+uint64(len(v.behind)), "no record: the line has no end")
		case err != nil:
			v.left(v.Last+1+uint64(len(v.behind)), "no record: "+err.Error())
		case r.Seq >= v.end:
			v.left(r.Seq, fmt.Sprintf("record %d belongs to a later segment", r.Seq))
		default:
			v.damaged() // records follow, so it was no torn end
			v.record(line, &r)
			before = v.explain(&r, before)
		}
	}
	if newest {
		v.damaged()
	}
	v.Problems = append(v.Problems, before...)
	v.line = 0
	v.settle(nil)
	switch {
	case v.Records == records:
		v.problem(v.Last+1, "the segment has no records")
	case !v.sealed:
		v.problem(v.Last+1, "the segment has no whole checkpoint")
	}
	return nil
}

// left keeps a finding that is no damage when nothing but the like follows in this segment and the next one
// says why: the segment was given up after a write error, and the next one has its last lines again.
func (v *verifier) left(seq uint64, text string) {
	v.behind = append(v.behind, Problem{v.name, v.line, seq, text})
}

// damaged makes problems of what was left behind.
func (v *verifier) damaged() {
	if len(v.behind) > 0 {
		v.Problems = append(v.Problems, v.behind...)
		v.skipped, v.trusted = uint64(len(v.behind)), false
		v.behind = nil
	}
}

// explain makes a note of what the segment before ends in, if r says that it was given up.
func (v *verifier) explain(r *Record, before []Problem) []Problem {
	if len(before) == 0 || !slices.Contains(strings.Fields(r.Target), before[0].Segment) {
		return before
	}
	switch {
	case r.Event == EventRotate && (r.Code == codeWrite || r.Code == codeSync), r.Event == EventRecovered:
		v.Notes = append(v.Notes, Problem{before[0].Segment, before[0].Line, before[0].Seq,
			fmt.Sprintf("%d lines at its end do not count (%s record %d: %s)", len(before), r.Event, r.Seq, r.Text)})
		return nil
	}
	return before
}
