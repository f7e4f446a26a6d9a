package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// chain is what Verify knows after a record.
type chain struct {
	hash    [hashLen]byte // of its line
	skipped uint64        // damaged lines after it, reported already
	state   *State        // the sum of all records, if trusted
	trusted bool          // false after damage, until the next checkpoint
	sealed  bool          // this segment has a whole checkpoint
	before  *State        // the sum until the checkpoint that is being read, nil: nothing to compare with
	jump    *jump         // numbers left out, not explained yet
}

// jump is a run of numbers that no record has.
type jump struct {
	span
	at      Problem
	open    uint64   // first number that is not explained yet
	gap     bool     // a gap record explains some of it
	deleted bool     // a recovered record says that there was a segment
	chained bool     // the chain goes on over it: no line that was written is missing
	differs *Problem // the checkpoint after it is not the sum of what came before
}

// noHash is what the very first record follows.
func noHash() (hash [hashLen]byte) {
	for i := range hash {
		hash[i] = '0'
	}
	return hash
}

// record checks a good line against what came before.
func (v *verifier) record(line []byte, r *Record) {
	v.Records++
	if v.First == 0 {
		v.First = r.Seq
	}
	first, _ := segFirst(v.name)
	if v.line == 1 && r.Seq != first {
		v.problem(r.Seq, "record %d is the first of a segment that is named after record %d", r.Seq, first)
	}
	want, skipped := v.Last+1+v.skipped, v.skipped
	v.skipped = 0
	chained := r.Prev == string(v.hash[:])
	switch {
	case r.Seq <= v.Last:
		v.problem(r.Seq, "record %d comes after record %d: reordered, or a copy", r.Seq, v.Last)
		v.trusted = false
		return
	case skipped > 0:
		if r.Seq > want {
			v.problem(want, "records %d to %d are missing", want, r.Seq-1)
		}
	case r.Seq > want:
		j := &jump{span: span{want, r.Seq - 1}, open: want, chained: chained}
		j.at = Problem{v.name, v.line, want, fmt.Sprintf("records %d to %d are missing", want, r.Seq-1)}
		v.settle(nil)
		v.jump = j // a record of this segment may explain it
		v.trusted = v.trusted && chained
	case !chained:
		v.problem(v.Last, "record %d was changed, or record %d was: its prev is not the hash of the line before", v.Last, r.Seq)
		v.trusted = false
	}
	v.apply(r, len(line)+1)
	sum := sha256.Sum256(line)
	hex.Encode(v.hash[:], sum[:])
	v.Last, v.Clean = r.Seq, stopped(v.Clean, r)
	if r.Event == EventGap || r.Event == EventRecovered {
		v.settle(r)
	}
}

// apply keeps the sum, and compares it with each checkpoint.
func (v *verifier) apply(r *Record, size int) {
	if r.Event == EventCheckpoint {
		v.before = nil
		if v.trusted {
			v.before = v.state
		}
		v.state, v.trusted = NewState(), true
	}
	if !v.trusted {
		return
	}
	wasSealed := v.state.sealed
	if err := v.state.apply(r, size); err != nil {
		v.problem(r.Seq, "record %d cannot follow: %v", r.Seq, err)
		v.trusted = false
		return
	}
	if wasSealed || !v.state.sealed {
		return
	}
	v.sealed = true
	if v.before == nil {
		return
	}
	id := v.state.differs(v.before)
	v.before = nil
	if id == 0 {
		return
	}
	p := Problem{v.name, v.line, r.Seq, fmt.Sprintf("the checkpoint before record %d is not the sum of the records before it: hold %d differs", r.Seq+1, id)}
	if v.jump != nil {
		v.jump.differs = &p // as it must, if a gap record says that the records between are lost
	} else {
		v.Problems = append(v.Problems, p)
	}
}

// settle decides about numbers left out: by is a gap or recovered record that may explain them, or some of them;
// nil if no more can come.
func (v *verifier) settle(by *Record) {
	j := v.jump
	if j == nil {
		return
	}
	if by != nil {
		if by.First > j.open || by.Last < j.open {
			return
		}
		j.open, j.gap = by.Last+1, j.gap || by.Event == EventGap
		j.deleted = j.deleted || by.Event == EventRecovered && by.Code == codeDeleted
		j.at.Text += fmt.Sprintf(" (%s record %d: %s)", by.Event, by.Seq, by.Text)
		if j.open <= j.last {
			return
		}
	}
	v.jump = nil
	if j.differs != nil && !j.gap {
		v.Problems = append(v.Problems, *j.differs)
	}
	if j.open > j.last && j.chained && !j.deleted {
		v.Notes = append(v.Notes, j.at)
	} else {
		v.Problems = append(v.Problems, j.at)
	}
}
