package audit

import (
	"os"
	"slices"
)

// batch is a run of lines and where the chain stands after it.
type batch struct {
	buf  []byte
	seq  uint64
	hash [hashLen]byte
}

// blockFor says how many numbers a segment reserves on disk before the first of them is used: after an unclean
// stop the next run begins after them, so that no token comes twice even when the tail of the log is lost.
// No line is shorter than 64 bytes, so the space of a segment ends before its numbers do.
func blockFor(space int64) uint64 { return max(1<<20, uint64(space)/64) }

// head encodes, behind what is in buf, what a segment opens with: checkpoint, one held record per hold, explanations, rotate. With many
// holds that is megabytes, which are not copied again.
func (l *Log) head(buf []byte, next *segment, explain []Record, code string, why *fault) batch {
	holds := uint64(len(l.state.live) + len(l.state.lost))
	next.reserved = l.seq + 1 + holds + blockFor(next.space)
	buf = append(make([]byte, 0, int64(len(buf))+l.headSpace()), buf...) // slices.Grow would clear it first
	buf = l.put(buf, &Record{Event: EventCheckpoint, Count: holds, Last: next.reserved, BootID: l.bootID})
	var r Record
	l.state.checkpoint(func(k *kept) {
		l.state.held(k, &r)
		buf = l.put(buf, &r)
	})
	for i := range explain {
		clip(&explain[i])
		buf = l.put(buf, &explain[i])
	}
	turn := Record{Event: EventRotate, Code: code, Target: l.before}
	if why != nil {
		turn.Text = why.err.Error()
	}
	clip(&turn)
	buf = l.put(buf, &turn)
	return batch{buf, l.seq, l.prev}
}

// turn goes on in the next segment, whose head follows the last line written. The caller is the writer.
func (l *Log) turn(next *segment, head batch) {
	l.becomeSyncer()
	// The old segment first: a power cut must not leave a hole in the middle of the chain.
	l.sync()
	old := l.cur
	if old.bad == nil {
		l.mu.Unlock()
		err := l.install(next, head.buf)
		l.mu.Lock()
		if err == nil {
			l.adopt(next, head)
			l.retire(old, old.off)
			l.giveSyncer()
			return
		}
		old.bad, next = &fault{codeWrite, err}, nil
	}
	l.giveSyncer()
	l.repair(next, head.buf)
}

// repair gives the current segment up. All lines that are not known to be on disk are written to a new one,
// then a checkpoint: whatever became of the bytes in the old file, no answered record depends on them.
// next is a spare that was not used after all, taken are lines that come before fresh. The caller is the writer.
func (l *Log) repair(next *segment, taken ...[]byte) {
	l.fresh = slices.Concat(append(taken, l.fresh)...)
	if next != nil && l.spare == nil {
		l.spare, next = next, nil
	}
	l.becomeSyncer()
	defer l.giveSyncer()
	if next != nil {
		l.discard(next)
	}
	var err error
	for range 2 { // a spare may be as bad as what it is to replace
		if !l.spareFits() {
			l.provide()
		}
		if l.spare == nil {
			err = l.spareErr
			break
		}
		if err = l.rewrite(); err == nil {
			return
		}
	}
	l.fail(err)
}

// rewrite is one try of repair. The caller is writer and syncer.
func (l *Log) rewrite() error {
	next, old := l.spare, l.cur
	l.spare = nil
	answered := len(l.unsynced)
	carry := slices.Concat(l.unsynced, l.fresh)
	l.fresh = nil
	code, why, explain, missing := codeOpened, (*fault)(nil), slices.Clone(l.opening), span{}
	switch {
	case old != nil:
		code, why = old.bad.code, old.bad
	case l.before == "":
		code = codeFirst
	}
	if why.tampered() && l.synced >= old.first {
		explain = append(explain, Record{Event: EventGap, First: old.first, Last: l.synced, Code: why.code,
			Target: old.name, Text: why.err.Error()})
	}
	if l.dropFirst != 0 {
		missing = span{l.dropFirst, l.seq}
		l.prev, l.dropFirst = l.writtenHash, 0
		explain = append(explain, Record{Event: EventGap, First: missing.first, Last: missing.last,
			Code: codeWrite, Text: l.failed.Error()})
	}
	in := l.head(carry, next, explain, code, why)
	l.mu.Unlock()
	err := l.install(next, in.buf)
	l.mu.Lock()
	if err != nil {
		l.fresh = slices.Concat(in.buf[answered:], l.fresh)
		if missing.first != 0 {
			l.drop(missing.first)
		}
		return err
	}
	if missing.first != 0 {
		l.forget(missing)
	}
	healed := l.failed != nil
	l.adopt(next, in)
	if old != nil && !why.tampered() {
		l.retire(old, old.off-int64(answered)) // the rest is in the new segment
	} else if old != nil {
		l.retire(old, -1)
	}
	switch {
	case healed:
		l.say("audit log is written again", "segment", next.name)
	case why != nil:
		l.say("audit segment given up", "segment", old.name, "next", next.name, "error", why.err)
	}
	return nil
}

// install makes a spare that holds these lines, and is on disk with them, the newest segment. It appears under
// its name whole or not at all.
func (l *Log) install(next *segment, lines []byte) error {
	var r Record
	c := cursor{rest: lines}
	c.must(`{"seq":`)
	r.Seq = c.uint(1<<64 - 1)
	if c.err != nil {
		panic("audit: a segment begins in the middle of a line")
	}
	name, to := next.name, segName(r.Seq)
	_, err := writeAll(next.file, lines)
	if err == nil {
		err = next.file.Sync()
	}
	if err == nil {
		err = l.fs.Rename(name, to)
	}
	if err == nil {
		name = to
		err = l.fs.Sync()
	}
	if err != nil {
		_ = next.file.Close()
		l.remove(name)
		return err
	}
	next.name, next.first = name, r.Seq
	l.dir.note(os.Getpid(), name)
	return nil
}

// adopt makes next the current segment. The caller is writer and syncer.
func (l *Log) adopt(next *segment, in batch) {
	next.off = int64(len(in.buf))
	l.cur, l.before = next, next.name
	l.size = next.off + int64(len(l.fresh))
	l.unsynced = l.unsynced[:0]
	l.written, l.synced, l.writtenHash = in.seq, in.seq, in.hash
	l.failed, l.opening = nil, nil
	l.moved.Broadcast()
	l.work.wantSpare()
}

// retire closes a segment that is no longer written, cut to size bytes; -1: as it is. Cutting also gives back
// the space reserved beyond its end. Nothing depends on its success. The caller is writer and syncer.
func (l *Log) retire(old *segment, size int64) {
	l.mu.Unlock()
	if size >= 0 {
		_ = old.file.Truncate(size)
	}
	_ = old.file.Close()
	l.mu.Lock()
}

// say warns. The caller has mu and lets it go meanwhile.
func (l *Log) say(msg string, kv ...any) {
	if l.warn == nil {
		return
	}
	l.mu.Unlock()
	l.warn(msg, kv...)
	l.mu.Lock()
}
