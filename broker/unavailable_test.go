package broker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

// faulty is the log's disk, which a test breaks and mends.
type faulty struct {
	audit.FS
	writes, syncs atomic.Bool // fail
}

func (f *faulty) drive(r *rig) {
	r.alter = func(l *audit.Config, _ *Config) {
		l.FS = func(real audit.FS) audit.FS { f.FS = real; return f }
	}
}

func (f *faulty) Create(name string, least, most int64) (audit.File, int64, error) {
	if f.writes.Load() {
		return nil, 0, unix.ENOSPC
	}
	file, n, err := f.FS.Create(name, least, most)
	return &faultyFile{file, f}, n, err
}

type faultyFile struct {
	audit.File
	f *faulty
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if f.f.writes.Load() {
		return 0, unix.EIO
	}
	return f.File.Write(p)
}

func (f *faultyFile) Sync() error {
	if f.f.syncs.Load() {
		return unix.EIO
	}
	return f.File.Sync()
}

func TestWithoutALogNothingIsGrantedAndEverythingIsReleased(t *testing.T) {
	var disk faulty
	r := newRig(t, disk.drive)
	base := r.atRest()
	a, b, c, d := r.file("a"), r.file("b"), r.file("c"), r.file("d")
	p, q := r.dial(), r.dial()
	ga, gb := p.granted(attached(a)), p.granted(detached(b))
	waiting := q.send(attached(a))
	q.queued(waiting)

	disk.writes.Store(true)
	for name, m := range map[string]*wire.Lock{"attached": attached(c), "detached": detached(c), "a set": detached(d, c)} {
		if e := p.refused(m); e.Code != wire.CodeUnavailable {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if !isFree(t, c) || !isFree(t, d) {
		t.Error("a grant that could not be recorded left a lock")
	}
	r.checkReplay()
	if s := p.answer(p.send(&wire.Status{})).(*wire.StatusReply); s.AuditError == "" || s.Holds != 2 {
		t.Errorf("%+v", s)
	}
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: gb[0].ID})).(*wire.Released); rel.IDs[0] != gb[0].ID || !isFree(t, b) {
		t.Errorf("%+v", rel)
	}
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: ga[0].ID})).(*wire.Released); rel.IDs[0] != ga[0].ID {
		t.Errorf("%+v", rel)
	}
	if e := asError(t, q.answer(waiting)); e.Code != wire.CodeUnavailable {
		t.Errorf("the next in the queue: %+v", e)
	}
	if !isFree(t, a) {
		t.Error("locked, and nobody holds it")
	}
	r.checkReplay()

	disk.writes.Store(false)
	eventually(t, "grants are made again", func() bool {
		m, ok := p.answer(p.send(attached(a))).(*wire.Granted)
		return ok && m.Grants[0].ID > ga[0].ID
	})
	if s := p.answer(p.send(&wire.Status{})).(*wire.StatusReply); s.AuditError != "" {
		t.Errorf("%+v", s)
	}
	r.checkReplay()
	p.conn.Close()
	q.conn.Close()
	base.descriptors++ // of the log: it may have a spare segment now, or none
	r.settles(base)
}

// A grant whose record does not reach the disk has been seen by nobody: it is taken back, and nobody is let in meanwhile.
func TestADetachedGrantThatDoesNotReachTheDiskIsTakenBack(t *testing.T) {
	var disk faulty
	r := newRig(t, disk.drive)
	a := r.file("a")
	p, q := r.dial(), r.dial()
	for range 3 {
		disk.syncs.Store(true)
		disk.writes.Store(true)
		if e := p.refused(detached(a)); e.Code != wire.CodeUnavailable {
			t.Fatalf("%+v", e)
		}
		if !isFree(t, a) {
			t.Error("still locked")
		}
		disk.syncs.Store(false)
		disk.writes.Store(false)
		eventually(t, "grants are made again", func() bool {
			m, ok := q.answer(q.send(detached(a))).(*wire.Granted)
			return ok && !m.Grants[0].Already
		})
		q.answer(q.send(&wire.Unlock{By: wire.ByAll}))
		r.checkReplay()
	}
}

// The disk breaks and heals under load: a file is never had by two, and every request is answered.
func TestALogThatComesAndGoesNeverLetsTwoIn(t *testing.T) {
	var disk faulty
	r := newRig(t, disk.drive)
	path := r.file("a")
	var holder, granted, refused atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for c := range int64(4) {
		p := r.dial()
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				m := attached(path)
				if i%2 == 0 {
					m = detached(path)
					m.Tag = fmt.Sprint(c)
				}
				switch a := p.answer(p.send(m)).(type) {
				case *wire.Granted:
					if !holder.CompareAndSwap(0, c+1) {
						t.Errorf("granted to %d while %d has it", c+1, holder.Load())
					}
					granted.Add(1)
					holder.CompareAndSwap(c+1, 0)
					p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}, Tag: m.Tag}))
				case *wire.Error:
					refused.Add(1)
					if a.Code != wire.CodeUnavailable {
						t.Errorf("%+v", a)
					}
				}
				p.kept = nil
			}
		})
	}
	for i := range 12 {
		before, count := granted.Load(), &granted
		disk.writes.Store(i%2 == 0)
		if i%2 == 0 {
			before, count = refused.Load(), &refused
		}
		eventually(t, "grants are made, or refused", func() bool { return count.Load() > before+5 })
	}
	close(stop)
	clients.Wait()
	disk.writes.Store(false)
	r.checkReplay()
	p := r.dial()
	eventually(t, "grants are made again", func() bool { _, ok := p.answer(p.send(attached(path))).(*wire.Granted); return ok })
}
