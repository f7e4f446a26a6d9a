package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config says where the log is. Only Dir is needed.
type Config struct {
	Dir         string // made when it is missing; must belong to the effective uid
	SegmentSize int64  // bytes that a segment may take, 0: 64 MiB
	GID         int    // of the group that may read the log (adm), -1: leave groups alone
	// AcceptBroken goes on after damage in the middle of the newest segment: what follows the damage is moved
	// aside, and a recovered record says so.
	AcceptBroken bool
	BootID       string                      // of the running kernel; goes into each checkpoint
	Floor        uint64                      // numbers of this run are greater: others know of those up to it
	FS           func(real FS) FS            // tests: wraps the real file system
	Now          func() time.Time            // nil: time.Now
	Boot         func() time.Duration        // nil: CLOCK_BOOTTIME
	Warn         func(msg string, kv ...any) // for the log of lockerd; must not call the Log; nil: silent
}

// DefaultSegmentSize is the size of a segment when Config does not say.
const DefaultSegmentSize = 64 << 20 // bytes

// Open takes the directory, replays the newest segment and begins the next one with a checkpoint. A torn tail,
// which a power cut leaves, is moved aside. A log that is damaged before its tail is refused (ErrBroken), as is
// one that another lockerd has open (ErrInUse).
//
// When no segment can be begun, because the disk is full, failing or read-only, Open succeeds all the same, as long as
// there is a log to go on with or the disk is merely full: what was held must be held again, and must be able to end.
// Grants are refused (Health says why) until a segment can be written.
func Open(c Config) (*Log, error) {
	d, err := openDir(c.Dir, c.GID)
	if err != nil {
		return nil, err
	}
	l, err := open(c, d)
	if err != nil {
		d.close()
		return nil, err
	}
	return l, nil
}

func open(c Config, d *dir) (*Log, error) {
	past, err := recoverLog(d, c)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l := &Log{
		fs: d, dir: d, most: c.SegmentSize, warn: c.Warn,
		bootID: c.BootID, replayed: past.state, clean: past.clean, whole: past.whole, last: past.last,
		state: past.state.clone(),
		seq:   past.next - 1, prev: past.hash, written: past.next - 1, writtenHash: past.hash, synced: past.next - 1,
		before: past.newest,
	}
	l.debris = past.spares
	for _, name := range past.spares { // ours get other names: "file exists" would hide why nothing can be made
		if n, err := strconv.Atoi(strings.TrimPrefix(name, sparePrefix)); err == nil {
			l.spares = max(l.spares, n)
		}
	}
	l.moved = sync.NewCond(&l.mu)
	if c.FS != nil {
		l.fs = c.FS(d)
	}
	if l.most <= 0 {
		l.most = DefaultSegmentSize
	}
	l.clock.now, l.clock.boot = c.Now, c.Boot
	wall, boot := l.clock.read()
	l.state.inBoot(c.BootID, wall, boot) // as the first checkpoint says
	if past.recovered != nil {
		l.opening = []Record{*past.recovered}
	}
	l.work.start(l)
	if err := l.begin(); err != nil {
		l.work.end()
		if l.spare != nil {
			_ = l.spare.file.Close()
		}
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if past.recovered != nil && l.warn != nil {
		l.warn("audit log recovered", "text", past.recovered.Text, "kept_in", past.recovered.Target, "next", past.next)
	}
	return l, nil
}

// begin makes the first segment of this run.
func (l *Log) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.becomeWriter()
	defer l.giveWriter()
	l.repair(nil)
	if l.failed != nil && !isFull(l.failed) && l.before == "" {
		return l.failed // whoever sets up a lockerd is told at once
	}
	return nil
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// Close flushes and lets the directory go. The caller has appended the stop record. Append and Commit refuse
// from then on. The spare stays on disk, as space for the next run.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.mu.Unlock()
	l.work.end()
	l.mu.Lock()
	seq := l.seq
	l.mu.Unlock()
	err := l.Commit(seq, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.becomeWriter()
	l.becomeSyncer()
	l.closed = true
	if l.cur != nil {
		size := l.cur.off
		if l.cur.bad.tampered() {
			size = -1
		}
		l.retire(l.cur, size)
	}
	if l.spare != nil {
		_ = l.spare.file.Close()
	}
	l.giveSyncer()
	l.giveWriter()
	l.dir.close()
	if err != nil {
		return fmt.Errorf("close audit log: %w", err)
	}
	return nil
}
