package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	// ErrFull refuses a grant: no spare segment can be made, and the rest of the last is kept for the ends
	// of holds.
	ErrFull = errors.New("audit log is full")
	// ErrFailed says that the log cannot be written at present. Grants are refused; other records are taken
	// in memory.
	ErrFailed = errors.New("audit log cannot be written")
	ErrClosed = errors.New("audit log is closed")
	// ErrInUse refuses a second lockerd on one directory.
	ErrInUse = errors.New("directory is locked")
	// ErrBroken refuses a log that is damaged before its tail.
	ErrBroken = errors.New("audit log is damaged")

	errShortWrite = errors.New("short write")
)

const hashLen = 2 * sha256.Size // hex digits

// Log is an open log.
type Log struct {
	fs       FS
	dir      *dir
	most     int64                       // bytes of a segment when there is room enough
	warn     func(msg string, kv ...any) // never called with mu held
	bootID   string
	replayed *State
	clean    bool
	whole    bool
	last     moment
	work     background

	// mu guards all below. It is never held across a system call but clock_gettime(2).
	mu    sync.Mutex
	moved *sync.Cond // a role was given back, or a mark moved

	// The lines, in order: up to synced on disk; up to written in the file (those after synced also in
	// unsynced); up to seq in fresh, or with the writer.
	clock       clock
	state       *State // written by Append alone, which also has the caller's mutex
	seq         uint64
	prev        [hashLen]byte // hash of line seq
	fresh       []byte
	taken       []byte // the writer's; swapped with fresh
	written     uint64
	writtenHash [hashLen]byte
	unsynced    []byte
	synced      uint64

	// Roles. The writer alone moves written and replaces cur, and for that it is also the syncer.
	writing, syncing bool

	cur      *segment // nil: none could be made yet
	before   string   // name of cur, or of what was the newest segment at the start
	size     int64    // bytes of cur when fresh is written
	spare    *segment
	spareErr error // why there is none
	making   bool  // somebody makes one
	spares   int   // made so far, for names
	debris   []string

	failed    error    // why nothing can be written; set whenever cur is nil
	dropFirst uint64   // from here on lines are counted, not kept; 0: they are kept
	gaps      []span   // what was dropped: these records are on no file
	opening   []Record // explanations for the first head
	stopping  bool     // the last record appended is a stop record
	leftOut   uint64   // records not taken while the log was full
	dirty     bool     // the flusher has been told
	closed    bool
}

type span struct{ first, last uint64 }

// Replayed returns what the log said before this run. It does not change.
func (l *Log) Replayed() *State { return l.replayed }

// Clean says that the last run ended with a stop record, or that there was none.
func (l *Log) Clean() bool { return l.clean }

// Whole says that the past was read without loss, so that what it does not know was never answered: there was a
// log, and no damage but a line that a killed lockerd had no time to finish. A last line that is unfinished after
// a reboot counts as damage: more than that may be gone. False also when Config.Floor is a number that the log
// had not yet reserved, and when there was no log at all.
func (l *Log) Whole() bool { return l.whole }

// Last returns when the last record of the past was written: wall clock and CLOCK_BOOTTIME, which counts from the
// boot that Replayed().BootID() names. Zero if there is none.
func (l *Log) Last() (wall time.Time, boot time.Duration) { return l.last.wall, l.last.boot }

// State returns the live state: what replaying all that was appended would give. It may be read under the
// mutex that orders calls of Append.
func (l *Log) State() *State { return l.state }

// Append takes a record into the log, in memory only; Commit brings it to the file. It fills Seq, Time, Boot,
// Synced, and the ID of a grant, and cuts text that is too long. The caller orders its calls.
//
// On an error nothing has happened: ErrFull or ErrFailed for a grant, ErrClosed, or a record that cannot follow
// the ones before. Other records than grants are never refused for lack of space; but while space lacks, those
// that change no hold and count by the thousand (deny, wait, …) are only counted: seq is 0 then, which Commit
// accepts, and a suppressed record says later how many.
func (l *Log) Append(r *Record) (seq uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return 0, ErrClosed
	case eventOf([]byte(r.Event)) == "" || own(r.Event):
		return 0, fmt.Errorf("append record: event %q is not the caller's to record", string(r.Event))
	case r.Event == EventGrant:
		if err := l.refusal(r); err != nil {
			return 0, err
		}
	case passing(r.Event) && l.lacking():
		l.leftOut++
		r.Seq = 0
		return 0, nil
	}
	if l.leftOut > 0 && !l.lacking() {
		n := Record{Event: EventSuppressed, Count: l.leftOut, Text: "left out while the log had no space"}
		l.leftOut = 0
		if err := l.take(&n); err != nil {
			return 0, err
		}
	}
	clip(r)
	if err := l.take(r); err != nil {
		return 0, err
	}
	l.stopping = r.Event == EventStop
	return r.Seq, nil
}

// own says which records the log alone writes.
func own(e Event) bool {
	switch e {
	case EventCheckpoint, EventHeld, EventRotate, EventGap, EventRecovered:
		return true
	}
	return false
}

// passing says which records change no hold and can be had by the thousand for the asking: a hostile user
// must not fill with them what is kept for the ends of holds, and neither must a keeper that dies again and again.
func passing(e Event) bool {
	switch e {
	case EventConnectRefused, EventDeny, EventWait, EventTimeout, EventCancel, EventSuppressed, EventPolicyRefused, EventAltered, EventKeeper, EventGuard:
		return true
	}
	return false
}

// refusal says why a grant cannot be recorded now, nil if it can.
func (l *Log) refusal(r *Record) error {
	if l.failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, l.failed)
	}
	if l.seq >= l.cur.reserved {
		// Cannot be while lines are as long as they are (blockFor), but a token must never be given twice.
		return fmt.Errorf("%w: its numbers are used up", ErrFull)
	}
	if l.lacking() || l.spare == nil && l.spareErr != nil && l.tight(len(AppendLine(nil, r))+hashLen) {
		return fmt.Errorf("%w: %w", ErrFull, l.spareErr)
	}
	return nil
}

// lacking says that what is left is for the ends of holds.
func (l *Log) lacking() bool {
	const grantSize = 1 << 10 // bytes that a grant record seldom exceeds
	return l.failed != nil || l.spare == nil && l.spareErr != nil && l.tight(grantSize)
}

// tight says that n more bytes would reach into the reserve of the current segment: its last tenth, or what
// the end records of all holds take, if that is more.
func (l *Log) tight(n int) bool {
	return l.size+int64(n) > l.cur.space-l.reserve()
}

func (l *Log) reserve() int64 { return max(l.cur.space/10, l.state.size) }

// take is Append without the questions.
func (l *Log) take(r *Record) error {
	if l.dropFirst != 0 {
		return l.count(r)
	}
	seq, prev, start := l.seq, l.prev, len(l.fresh)
	if r.Event == EventGrant {
		r.ID = l.seq + 1
	}
	l.fresh = l.put(l.fresh, r)
	n := len(l.fresh) - start
	if err := l.state.apply(r, n); err != nil {
		l.seq, l.prev, l.fresh = seq, prev, l.fresh[:start]
		return err
	}
	if l.failed != nil {
		l.holdBack()
		return nil
	}
	l.size += int64(n)
	l.wake()
	return nil
}

// put encodes r as the next line.
func (l *Log) put(dst []byte, r *Record) []byte {
	r.Seq = l.seq + 1
	if r.Event != EventHeld { // which tells when the hold was granted
		r.Time, r.Boot = l.clock.read()
	}
	r.Synced = l.synced
	start := len(dst)
	dst = appendChained(dst, r, l.prev[:])
	sum := sha256.Sum256(dst[start:])
	hex.Encode(l.prev[:], sum[:])
	l.seq = r.Seq
	return append(dst, '\n')
}
