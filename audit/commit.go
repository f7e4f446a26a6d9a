package audit

import (
	"errors"
	"fmt"
	"io/fs"
)

// maxUnsynced bounds what is kept in memory until a disk that hangs has it; beyond it, writing waits.
const maxUnsynced = 8 << 20 // bytes

// Commit returns when record seq is in the file, or, when durable, on disk: a SIGKILL, or a power cut, does
// not lose it. Whoever finds nobody writing writes everything that waits, with one write(2), and whoever finds
// nobody syncing syncs for all: no goroutine but the caller's own takes part.
//
// An error says that the record is not there; its effect is still in State. For a grant the caller then appends
// a release. Should the log be writable again later, both records go on file together.
func (l *Log) Commit(seq uint64, durable bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq > l.seq {
		return fmt.Errorf("commit record %d: the last is %d", seq, l.seq)
	}
	for {
		switch {
		case l.dropped(seq):
			return fmt.Errorf("commit record %d: %w", seq, ErrFailed)
		case seq <= l.synced, !durable && seq <= l.written:
			return nil
		case l.closed:
			return ErrClosed
		case l.failed != nil:
			return fmt.Errorf("commit record %d: %w: %w", seq, ErrFailed, l.failed)
		case seq > l.written || l.cur.bad != nil:
			if !l.writing {
				l.becomeWriter()
				l.write()
				l.giveWriter()
				continue
			}
		case !l.syncing:
			l.becomeSyncer()
			l.sync()
			l.giveSyncer()
			continue
		}
		l.moved.Wait()
	}
}

// dropped says that record seq is on no file and never will be.
func (l *Log) dropped(seq uint64) bool {
	for _, g := range l.gaps {
		if g.first <= seq && seq <= g.last {
			return true
		}
	}
	return false
}

// write brings all fresh lines to the file, and begins the next segment when this one is full. The caller is
// the writer and has mu, which is given back while the system is called.
func (l *Log) write() {
	for l.failed == nil && l.cur.bad == nil && len(l.unsynced) > maxUnsynced {
		l.becomeSyncer()
		l.sync()
		l.giveSyncer()
	}
	if l.failed == nil && l.tight(0) && !l.spareFits() && l.spareErr == nil && !l.stopping {
		l.provide()
	}
	if l.failed != nil {
		return
	}
	if l.cur.bad != nil {
		l.repair(nil)
		return
	}
	cur, out, seq, hash := l.cur, l.fresh, l.seq, l.prev
	l.fresh, l.taken = l.taken[:0], out
	var next *segment
	var head batch
	if l.tight(0) && l.spareFits() && !l.stopping { // the next run begins a segment anyway
		next, l.spare = l.spare, nil
		head = l.head(nil, next, nil, codeSize, nil)
		l.size = int64(len(head.buf)) // what is appended from now on goes there
		l.work.wantSpare()
	}
	l.mu.Unlock()
	n, err := writeAll(cur.file, out)
	if err != nil && n > 0 {
		// Best effort: no part of what counts as not written should be read after a crash.
		_ = cur.file.Truncate(cur.off)
	}
	l.mu.Lock()
	if err != nil {
		cur.bad = &fault{codeWrite, err}
		l.repair(next, out, head.buf)
		return
	}
	cur.off += int64(len(out))
	l.unsynced = append(l.unsynced, out...)
	l.written, l.writtenHash = seq, hash
	if next != nil {
		l.moved.Broadcast() // whoever waits for what is in the old segment need not wait for the new one
		l.turn(next, head)
	}
}

func (l *Log) becomeWriter() {
	for l.writing {
		l.moved.Wait()
	}
	l.writing = true
}

func (l *Log) giveWriter() {
	l.writing = false
	l.moved.Broadcast()
}

func (l *Log) becomeSyncer() {
	for l.syncing {
		l.moved.Wait()
	}
	l.syncing = true
}

func (l *Log) giveSyncer() {
	l.syncing = false
	l.moved.Broadcast()
}

// sync puts on disk what is written, after a look whether the file is still what was written. The caller is the
// syncer and has mu, which is given back meanwhile. A fault stays in cur.bad, for the writer.
func (l *Log) sync() {
	cur := l.cur
	if cur == nil || cur.bad != nil {
		return
	}
	off, seq, n := cur.off, l.written, len(l.unsynced)
	l.mu.Unlock()
	bad := l.inspect(cur, off)
	if bad == nil && n > 0 {
		if err := cur.file.Sync(); err != nil {
			// Final for this file: the kernel may have dropped the pages, and a second fdatasync would
			// report success. fsync(2), "Errors".
			bad = &fault{codeSync, err}
		}
	}
	l.mu.Lock()
	if bad != nil {
		cur.bad = bad
		return
	}
	l.synced = seq
	l.unsynced = l.unsynced[:copy(l.unsynced, l.unsynced[n:])]
}

// inspect notices that the segment was deleted, renamed or truncated by somebody else.
func (l *Log) inspect(s *segment, off int64) *fault {
	ino, size, err := l.fs.Stat(s.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fault{codeDeleted, fmt.Errorf("segment %s is gone", s.name)}
	case err != nil:
		return &fault{codeWrite, err}
	case ino != s.ino:
		return &fault{codeDeleted, fmt.Errorf("segment %s was replaced by another file", s.name)}
	case size < off:
		return &fault{codeTruncated, fmt.Errorf("segment %s has %d bytes instead of %d", s.name, size, off)}
	}
	return nil
}
