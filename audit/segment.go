package audit

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	segPrefix   = "seg-"
	segSuffix   = ".jsonl"
	segDigits   = 20 // of the largest uint64: names sort as numbers do
	sparePrefix = "spare-"
	tornInfix   = ".torn-"
)

// segName names the segment whose first record has that seq.
func segName(first uint64) string {
	return fmt.Sprintf("%s%0*d%s", segPrefix, segDigits, first, segSuffix)
}

// segFirst is segName backwards. It accepts nothing that segName does not make.
func segFirst(name string) (first uint64, ok bool) {
	digits, ok := strings.CutPrefix(name, segPrefix)
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, segSuffix)
	if !ok || len(digits) != segDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && segName(first) == name
}

// segment is a file that is open for writing: the current one, or a spare.
type segment struct {
	name     string
	file     File
	ino      uint64
	first    uint64 // seq of its first record
	reserved uint64 // last number that its checkpoint reserves
	off      int64  // end of what is written; changed by the writer alone
	space    int64  // bytes of disk reserved for it
	bad      *fault // why nothing more is written to it
}

// fault is why a segment was given up.
type fault struct {
	code string
	err  error
}

// Codes of the rotate record, and of the gap record that may stand before it.
const (
	codeFirst     = "first"       // there was no log
	codeOpened    = "opened"      // lockerd started
	codeSize      = "size"        // the last segment was full
	codeWrite     = "write-error" // the last segment could not be written
	codeSync      = "sync-error"  // fdatasync(2) of the last segment failed
	codeDeleted   = "deleted"     // the last segment was removed or renamed under the running lockerd
	codeTruncated = "truncated"   // the last segment was cut short under the running lockerd
)

// tampered says that the file is not what was written: it is left alone, as evidence.
func (f *fault) tampered() bool {
	return f != nil && (f.code == codeDeleted || f.code == codeTruncated)
}

// writeAll writes p at the end and says how much of it is in the file.
func writeAll(f File, p []byte) (written int, err error) {
	for written < len(p) {
		n, err := f.Write(p[written:])
		written += n
		if err != nil {
			return written, err
		}
		if n == 0 {
			return written, errShortWrite
		}
	}
	return written, nil
}
