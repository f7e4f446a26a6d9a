package audit

import (
	"fmt"
	"path/filepath"
	"strings"
)

// past is what the log says before this run.
type past struct {
	state     *State
	next      uint64        // first number of this run
	hash      [hashLen]byte // what its first record follows
	newest    string        // segment that was replayed, "" if there is none
	clean     bool
	whole     bool     // see Log.Whole
	last      moment   // when its last record was written
	recovered *Record  // what had to be done, nil if nothing
	spares    []string // of earlier runs, still to be removed
}

// recovery finds out about the past, and moves aside what is no part of it.
type recovery struct {
	d        *dir
	accept   bool     // Config.AcceptBroken
	most     int64    // Config.SegmentSize
	floor    uint64   // numbers below may have been used in segments that are lost
	known    uint64   // Config.Floor
	bootID   string   // Config.BootID
	aside    []string // where damaged bytes are now
	bytes    int64    // how many they are
	why      []string
	accepted bool   // damage before the tail
	missing  string // newest segment, if somebody took it away
}

// recoverLog replays the newest segment that has a whole checkpoint.
func recoverLog(d *dir, c Config) (*past, error) {
	spares, err := removeSpares(d)
	if err != nil {
		return nil, err
	}
	names, err := segments(d.fd, d.path)
	if err != nil {
		return nil, err
	}
	if c.Floor > maxFloor {
		return nil, fmt.Errorf("floor %d is no number that a log has given", c.Floor)
	}
	x := &recovery{d: d, accept: c.AcceptBroken, most: c.SegmentSize, known: c.Floor, bootID: c.BootID}
	if x.missing = d.missing(names); x.missing != "" {
		x.lost(x.missing, 0)
		x.why = append(x.why, fmt.Sprintf("%s, the newest segment, is gone", x.missing))
	}
	s := &scan{state: NewState(), hash: noHash(), stopped: true} // of no log
	if len(names) > 0 {
		if s, err = x.newest(names); err != nil {
			return nil, err
		}
	}
	p := &past{state: s.state, hash: s.hash, newest: s.name, last: s.at, next: s.last + 1, spares: spares}
	p.clean = s.stopped && s.damage == nil && len(x.aside) == 0 && x.missing == ""
	p.whole = x.lossless(s)
	x.tail(s)
	_ = d.Sync() // if it fails, so will the first segment's
	if !p.clean {
		// The reserved block is skipped: the end of what was written may be lost.
		p.next = max(s.reserved+1, s.last+1, x.floor)
		if x.missing == "" { // its stop record may have been there
			x.why = append(x.why, "the last run did not stop")
		}
	}
	if p.next <= x.known {
		p.next = x.known + 1
		x.why = append(x.why, fmt.Sprintf("numbers up to %d are known outside of this log", x.known))
	}
	if len(x.why) > 0 {
		p.recovered = x.record(p.clean, s.last+1, p.next-1)
	}
	return p, nil
}

// maxFloor leaves so many numbers to this log that no sum of them overflows.
const maxFloor = 1<<63 - 1

// lossless says that no record that was answered is missing.
func (x *recovery) lossless(s *scan) bool {
	switch {
	case s.name == "", x.accepted, len(x.aside) > 0, x.missing != "":
		return false
	case x.known > s.reserved: // those numbers were used in segments that are not there
		return false
	case s.damage == nil:
		return true
	}
	// In one boot of the kernel the file has all that write(2) was given, but for the end of a call that SIGKILL
	// interrupted: its records were not answered.
	return s.cut && x.bootID != "" && s.state.bootID == x.bootID
}

// newest returns the newest segment that can be used. Later ones are moved aside.
func (x *recovery) newest(names []string) (*scan, error) {
	for i := len(names) - 1; i >= 0; i-- {
		s, err := replay(x.d.fd, x.d.path, names[i])
		if err != nil {
			return nil, err
		}
		if s.intact > 0 && !x.powerCut(s) {
			if !x.accept {
				return nil, fmt.Errorf("%s line %d (after record %d): %w, and %d later lines are intact: %w",
					filepath.Join(x.d.path, s.name), s.badLine, s.last, s.damage, s.intact, ErrBroken)
			}
			x.accepted = true
		}
		if s.state.sealed {
			return s, nil
		}
		if i == 0 && !x.accept {
			break
		}
		x.setAside(s)
	}
	if !x.accept {
		return nil, fmt.Errorf("no segment in %s has a whole checkpoint: %w", x.d.path, ErrBroken)
	}
	x.accepted = true
	return &scan{state: NewState(), hash: noHash()}, nil
}

// powerCut says that the damage, with intact lines after it, is what a power cut can leave: the kernel brings what is not
// synced yet to disk in any order.
func (x *recovery) powerCut(s *scan) bool {
	another := s.state.bootID != "" && x.bootID != "" && s.state.bootID != x.bootID
	return another && s.headed && s.synced <= s.last
}

// setAside renames a segment that has no whole checkpoint. Its numbers are lost with it.
func (x *recovery) setAside(s *scan) {
	why := fmt.Sprintf("%s has no whole checkpoint", s.name)
	to, err := freeName(x.d, s.name)
	if err == nil {
		err = x.d.Rename(s.name, to)
	}
	if err != nil {
		to, why = s.name, why+", left there: "+err.Error()
	}
	x.aside, x.bytes, x.why = append(x.aside, to), x.bytes+s.size, append(x.why, why)
	x.lost(s.name, s.size)
}

// lost skips the numbers of a segment that is not read: more than it can have used, which is what its head took, and a
// block. Its size may be unknown, 0.
func (x *recovery) lost(name string, size int64) {
	first, _ := segFirst(name)
	x.floor = max(x.floor, first+2*blockFor(max(x.most, DefaultSegmentSize, size)))
}

// tail moves aside what follows the last good record of the segment. When the disk does not let it, it stays where it
// is: the next segment does not continue it.
func (x *recovery) tail(s *scan) {
	switch {
	case s.name == "":
		return
	case s.damage == nil:
		_ = trim(x.d, s.name, s.size) // gives back space, if it can be
		return
	}
	torn := s.size - s.good
	why := fmt.Sprintf("%s ends in %d bytes that are no record (line %d: %v)", s.name, torn, s.badLine, s.damage)
	if s.intact > 0 && !x.accepted {
		why = fmt.Sprintf("the last %d bytes of %s, line %d and later, are not used: %v, and of the %d intact lines after it none was on disk for sure",
			torn, s.name, s.badLine, s.damage, s.intact)
	}
	to, err := setTailAside(x.d, s)
	if err != nil {
		to, why = s.name, why+", left there: "+err.Error()
	}
	x.aside, x.bytes, x.why = append(x.aside, to), x.bytes+torn, append(x.why, why)
}

// record tells what was done; the numbers first to last are not used, or lost.
func (x *recovery) record(clean bool, first, last uint64) *Record {
	r := &Record{Event: EventRecovered, Code: codeUnclean, Target: strings.Join(x.aside, " "), Count: uint64(x.bytes),
		Text: strings.Join(x.why, "; ")}
	if first <= last {
		r.First, r.Last = first, last
	}
	switch {
	case clean:
		r.Code = codeFloor
	case x.accepted:
		r.Code = codeAccepted
	case x.missing != "":
		r.Code = codeDeleted
	case len(x.aside) > 0:
		r.Code = codeTorn
	}
	return r
}

// Codes of the recovered record.
const (
	codeUnclean  = "unclean"  // the last run did not stop; nothing is damaged
	codeTorn     = "torn"     // bytes that are no record were moved to Target
	codeAccepted = "accepted" // the log was damaged before its tail, and Config.AcceptBroken is set
	codeFloor    = "floor"    // nothing is wrong with the log; Config.Floor is greater than its numbers
)
