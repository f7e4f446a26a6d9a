package audit

// maxHeldBack bounds the lines that are kept while the log cannot be written. Beyond it records are only counted
// and applied to the state; a gap record says later which.
const maxHeldBack = 1 << 20 // bytes

// fail says that nothing can be written for now. Every Commit that waits for a record that is not in the file
// gets an error. The background tries again. The caller is writer and syncer.
func (l *Log) fail(err error) {
	first := l.failed == nil
	l.failed = err
	if l.dropFirst != 0 || len(l.fresh) > maxHeldBack {
		l.drop(l.dropFirst)
	}
	l.moved.Broadcast()
	l.work.wantSpare()
	if first {
		l.say("audit log cannot be written: no grants until it can", "error", err)
	}
}

// holdBack is called after each record that is appended while the log cannot be written.
func (l *Log) holdBack() {
	// Not while a try is under way: it may be about to write the lines before these.
	if len(l.fresh) > maxHeldBack && !l.writing {
		l.drop(0)
	}
}

// drop gives up the lines that are not written, from seq first on; 0: from the first of fresh. Their effect stays in the
// state, and the next checkpoint carries it.
func (l *Log) drop(first uint64) {
	if first == 0 {
		first = l.written + 1
	}
	l.dropFirst, l.fresh = first, nil
}

// forget notes that these records are on no file, for a Commit that still asks for one.
func (l *Log) forget(s span) {
	const most = 64
	if len(l.gaps) == most {
		// Joined, the two oldest also cover what was written between them: such a late Commit gets an error
		// where it could have had nil. Nobody waits that long.
		l.gaps[1].first = l.gaps[0].first
		l.gaps = l.gaps[1:]
	}
	l.gaps = append(l.gaps, s)
}

// count is take while lines are dropped.
func (l *Log) count(r *Record) error {
	if r.Event == EventGrant {
		panic("audit: a grant while the log cannot be written")
	}
	r.Seq = l.seq + 1
	r.Time, r.Boot = l.clock.read()
	if err := l.state.Apply(r); err != nil {
		return err
	}
	l.seq = r.Seq
	return nil
}
