package audit

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// crowd is a disk whose syncs take as long as everybody who is at work needs to come and wait for one. However quick the real one is, and
// whoever is kept off the processors: else each might be done before the next has come.
type crowd struct {
	FS
	working, asked, answered atomic.Int64
}

type crowdFile struct {
	File
	c *crowd
}

func (c *crowd) Create(name string, least, most int64) (File, int64, error) {
	file, n, err := c.FS.Create(name, least, most)
	return crowdFile{file, c}, n, err
}

func (f crowdFile) Sync() error {
	for {
		asked, answered := f.c.asked.Load(), f.c.answered.Load()
		<-time.After(time.Millisecond) // those whom the last sync has set free come again meanwhile
		if asked-answered >= f.c.working.Load() && asked == f.c.asked.Load() && answered == f.c.answered.Load() {
			return f.File.Sync()
		}
	}
}

func TestDurableCommitsShareTheirSyncs(t *testing.T) {
	c, slow := &counting{}, &crowd{}
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir, FS: func(real FS) FS { slow.FS = real; return c.wrap(slow) }})
	before := c.syncs.Load()
	const workers, each = 64, 20
	var order sync.Mutex
	var all sync.WaitGroup
	slow.working.Store(workers)
	for range workers {
		all.Go(func() {
			defer slow.working.Add(-1)
			for range each {
				order.Lock()
				seq, err := l.Append(grant("/srv/a"))
				order.Unlock()
				if err == nil {
					slow.asked.Add(1)
					err = l.Commit(seq, true)
					slow.answered.Add(1)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	syncs := c.syncs.Load() - before
	t.Logf("%d durable commits, %d syncs", workers*each, syncs)
	if syncs*4 > workers*each {
		t.Errorf("%d syncs for %d commits", syncs, workers*each)
	}
	closeLog(t, l)
	verifyClean(t, dir)
}

func TestAnUncontendedCommitIsOneWriteByItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes: the background does nothing
		c := &counting{}
		l, err := Open(Config{Dir: t.TempDir() + "/audit", GID: -1, FS: c.wrap})
		if err != nil {
			t.Fatal(err)
		}
		writes, syncs := c.writes.Load(), c.syncs.Load()
		for range 100 {
			putRec(t, l, grant("/srv/a"), false)
		}
		if w, s := c.writes.Load()-writes, c.syncs.Load()-syncs; w != 100 || s != 0 {
			t.Errorf("%d writes, %d syncs for 100 commits", w, s)
		}
		closeLog(t, l)
	})
}

func TestWhatNobodyWaitsForIsOnDiskWithin50ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{}
		dir := t.TempDir() + "/audit"
		l, err := Open(Config{Dir: dir, GID: -1, FS: c.wrap})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			syncs := c.syncs.Load()
			seq := must(t, l, &Record{Event: EventDeny}) // never committed
			<-time.After(quiet)
			synctest.Wait()
			if c.syncs.Load() != syncs+1 {
				t.Errorf("%d syncs", c.syncs.Load()-syncs)
			}
			if rec := recordsIn(t, dir); rec[len(rec)-1].Seq != seq {
				t.Errorf("last record on file %d, want %d", rec[len(rec)-1].Seq, seq)
			}
			<-time.After(time.Hour) // and nothing is synced for nothing
		}
		if n := c.syncs.Load(); n != 4 {
			t.Errorf("%d syncs in three hours of three records", n)
		}
		closeLog(t, l)
	})
}

// Many goroutines, rotation all the time, a reader and a verifier beside them.
func TestALogUnderLoadVerifiesAtAnyMoment(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir, SegmentSize: 40 << 10})
	var order sync.Mutex
	var all, beside sync.WaitGroup
	stop := make(chan struct{})
	beside.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			rep, err := Verify(dir)
			if err != nil || len(rep.Problems) > 0 {
				t.Errorf("verify: %v %+v", err, rep.Problems)
				return
			}
			if err := Read(dir, Filter{Events: []Event{EventGrant}}, func([]byte, *Record) error { return nil }); err != nil {
				t.Error(err)
				return
			}
			l.Health()
		}
	})
	for w := range 8 {
		all.Go(func() {
			for n := range 150 {
				order.Lock()
				id, err := l.Append(grant(fmt.Sprintf("/srv/%d/%d", w, n)))
				order.Unlock()
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				if err := l.Commit(id, n%10 == 0); err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				order.Lock()
				_, ok := l.State().Get(id)
				seq, err := l.Append(release(id))
				order.Unlock()
				if err != nil || !ok || l.Commit(seq, false) != nil {
					t.Errorf("release: %v %v", err, ok)
					return
				}
			}
		})
	}
	all.Wait()
	close(stop)
	beside.Wait()
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	rep := verifyClean(t, dir)
	if rep.Holds != 0 || rep.Segments < 5 {
		t.Errorf("%+v", rep)
	}
}

func TestCommitOfANumberThatWasNotGivenIsAnError(t *testing.T) {
	l := openLog(t, Config{Dir: t.TempDir() + "/audit"})
	if err := l.Commit(l.Health().Seq+1, true); err == nil {
		t.Error("it is nil")
	}
	if err := l.Commit(0, true); err != nil {
		t.Errorf("commit of 0: %v", err)
	}
}
