package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

// altered waits for an event Altered.
func (p *peer) altered() wire.Alteration {
	p.t.Helper()
	m := p.until(func(id uint32, m wire.Message) bool { _, ok := m.(*wire.Altered); return ok && id == 0 }).(*wire.Altered)
	if len(m.Alterations) != 1 {
		p.t.Fatalf("an event with %+v", m)
	}
	return m.Alterations[0]
}

// listed gives the rows of a list and what was told before them.
func (p *peer) listed(all bool) (rows []wire.Row, altered []wire.Alteration) {
	p.t.Helper()
	id := p.send(&wire.List{All: all})
	for {
		switch m := p.answer(id).(type) {
		case *wire.Altered:
			altered = append(altered, m.Alterations...)
		case *wire.Rows:
			if rows = append(rows, m.Rows...); !m.More {
				return rows, altered
			}
		default:
			p.t.Fatalf("list: %+v", m)
		}
	}
}

// bands makes a bundle with so many bands.
func (r *rig) bands(name string, n int) string {
	r.t.Helper()
	path := r.bundle(name+".sparsebundle", "token", "Info.plist", "bands/")
	for i := range n {
		must(r.t, os.WriteFile(fmt.Sprintf("%s/bands/%x", path, i), nil, 0o644))
	}
	return path
}

// unwatched fails if the books know a watch, or something that is to be watched.
func (r *rig) unwatched() {
	r.t.Helper()
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	if c := &r.b.changes; c.used != 0 || len(c.uids)+len(c.fresh)+len(c.untold) != 0 {
		r.t.Errorf("nothing is held, and the books say %d watches, %v, fresh %d, untold %d", c.used, c.uids, len(c.fresh), len(c.untold))
	}
}

// watchers is how many inotify instances of this process watch the file or directory. proc_pid_fdinfo(5)
func watchers(t testing.TB, path string) (n int) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	must(t, err)
	for _, name := range files {
		text, _ := os.ReadFile(name) // it may be closed by now
		if strings.Contains(string(text), "inotify wd:") && strings.Contains(string(text), fmt.Sprintf(" ino:%x sdev:", st.Ino)) {
			n++
		}
	}
	return n
}

func TestAnAlteredBundleIsListedRecordedAndToldToItsHolder(t *testing.T) {
	r := newRig(t, nil)
	path := r.bands("mac", 16)
	p, old := r.dial4(), r.dial()
	must(t, os.Remove(path+"/bands/0")) // before the grant
	g := p.granted(attached(path))
	must(t, os.Remove(path+"/bands/f"))
	got := p.altered()
	if got.ID != g[0].ID || got.Count != 1 || got.Last != "bands/f" || got.At.IsZero() || got.Missed || got.Unwatched {
		t.Errorf("told %+v of hold %d", got, g[0].ID)
	}
	if rows, altered := p.listed(true); len(rows) != 1 || len(altered) != 1 || altered[0] != got {
		t.Errorf("listed %+v, %+v", rows, altered)
	}
	if rows := old.rowsOf(old.send(&wire.List{All: true})); len(rows) != 1 {
		t.Errorf("an older client is told %+v", rows)
	}
	recs := r.records(audit.EventAltered)
	if len(recs) != 1 || recs[0].ID != g[0].ID || recs[0].Path != path || recs[0].Text != "bands/f" || recs[0].Count != 1 || recs[0].UID != uint32(os.Geteuid()) {
		t.Errorf("recorded %+v", recs)
	}
	r.checkReplay()
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}}))
	must(t, os.Remove(path+"/bands/e"))
	r.unwatched()
	if g = p.granted(attached(path)); len(g) != 1 {
		t.Fatal(g)
	}
	if _, altered := p.listed(true); len(altered) != 0 {
		t.Errorf("the next hold has %+v", altered)
	}
}

func TestAlterationsAreToldAtOnceAndThenSummedUpForASecond(t *testing.T) {
	var clock still
	r := newRig(t, clock.drive)
	path := r.bands("mac", 100)
	p := r.dial4()
	p.granted(attached(path))
	must(t, os.Remove(path+"/bands/0"))
	if got := p.altered(); got.Count != 1 {
		t.Errorf("first told %+v", got)
	}
	for i := 1; i < 100; i++ {
		must(t, os.Remove(fmt.Sprintf("%s/bands/%x", path, i)))
	}
	eventually(t, "the list has them all", func() bool {
		_, altered := p.listed(true)
		return len(altered) == 1 && altered[0].Count == 100
	})
	if recs := r.records(audit.EventAltered); len(recs) != 1 {
		t.Errorf("%d records within a second", len(recs))
	}
	clock.forward(r, time.Second)
	if got := p.altered(); got.Count != 100 || got.Last != "bands/63" {
		t.Errorf("told %+v a second later", got)
	}
	if recs := r.records(audit.EventAltered); len(recs) != 2 || recs[1].Count != 100 {
		t.Errorf("recorded %+v", recs)
	}
	must(t, os.Remove(path+"/Info.plist"))
	eventually(t, "the list has the last", func() bool {
		_, altered := p.listed(true)
		return len(altered) == 1 && altered[0].Count == 101
	})
	p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}})) // within the second
	if recs := r.records(audit.EventAltered, audit.EventRelease); len(recs) != 4 || recs[2].Count != 101 || recs[3].Event != audit.EventRelease {
		t.Errorf("the end of the hold: %+v", recs)
	}
	r.unwatched()
}

func TestWhatBecomesOfTheNameOfAnyHeldFileIsSeen(t *testing.T) {
	r := newRig(t, nil)
	for _, at := range []string{"at once", "later"} {
		p, path := r.dial4(), r.file("a "+at)
		g := p.granted(attached(path))
		if at == "later" {
			eventually(t, "it is watched", func() bool { r.b.mu.Lock(); defer r.b.mu.Unlock(); return len(r.b.changes.fresh) == 0 })
		}
		must(t, os.Rename(path, path+" new"))
		if got := p.altered(); got.ID != g[0].ID || got.Count != 1 || got.Last != "" {
			t.Errorf("%s: told %+v", at, got)
		}
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	}
	r.unwatched()
}

func TestWhatHasBecomeOfAHoldIsKnownAfterARestartAndGoesOn(t *testing.T) {
	for _, how := range []string{"leave", "crash"} {
		r, s := withKeeper(t, nil)
		path, kept := r.bands("mac", 16), r.bands("kept", 16)
		p := r.dial4()
		g := p.granted(attached(path))
		p.granted(detached(kept))
		must(t, os.Remove(path+"/bands/1"))
		must(t, os.Rename(kept, kept+"2"))
		p.altered()
		eventually(t, "both are recorded", func() bool { return len(r.records(audit.EventAltered)) == 2 })
		if how == "leave" {
			s.leave()
		} else {
			s.crash()
		}
		must(t, os.Remove(path+"/bands/2"))  // which nobody sees
		before := watchers(t, path+"/bands") // a broker that had to leave in a hurry may not have closed its own
		s.back()
		session := p.session
		p.conn.Close()
		p = r.dial4()
		if m, ok := p.answer(p.send(&wire.Resume{Session: session})).(*wire.Resumed); !ok || len(m.IDs) != 1 {
			t.Fatalf("%s: resumed %+v", how, m)
		}
		if got := p.altered(); got.ID != g[0].ID || got.Count != 1 || got.Last != "bands/1" || got.At.IsZero() {
			t.Errorf("%s: told again %+v", how, got)
		}
		eventually(t, "the hold is watched again", func() bool { return watchers(t, path+"/bands") > before })
		must(t, os.Remove(path+"/bands/3"))
		if got := p.altered(); got.Count != 2 || got.Last != "bands/3" {
			t.Errorf("%s: told %+v", how, got)
		}
		_, altered := p.listed(true)
		slices.SortFunc(altered, func(x, y wire.Alteration) int { return int(x.ID) - int(y.ID) })
		if len(altered) != 2 || altered[0].Count != 2 || altered[1].Count != 1 || altered[1].Last != "" {
			t.Errorf("%s: listed %+v", how, altered) // the bundle that was renamed counts once
		}
		r.checkReplay()
	}
}

func TestAHoldThatCannotBeWatchedIsGrantedAndSaysSo(t *testing.T) {
	for what, change := range map[string]func(*changes){
		"there is no inotify":            func(c *changes) { c.kernel = nil },
		"there are too few for a bundle": func(c *changes) { c.all = 2 },
		"others have them all by now":    func(c *changes) { c.used = c.all },
	} {
		r := newRig(t, nil)
		p := r.dial4()
		r.b.mu.Lock()
		kernel, used := r.b.changes.kernel, r.b.changes.used
		change(&r.b.changes)
		r.b.mu.Unlock()
		g := p.granted(detached(r.bands("mac", 1)))
		_, altered := p.listed(true)
		if len(altered) != 1 || altered[0] != (wire.Alteration{ID: g[0].ID, Unwatched: true}) {
			t.Errorf("%s: listed %+v", what, altered)
		}
		p.answer(p.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
		r.b.mu.Lock()
		r.b.changes.kernel, r.b.changes.used = kernel, used
		r.b.mu.Unlock()
		r.unwatched()
	}
}

func TestOneUidCannotUseUpTheWatchesOfOthers(t *testing.T) {
	needRoot(t, "several users")
	r := newRig(t, threeUsers)
	r.b.mu.Lock()
	r.b.changes.each = 3 // a bundle's
	r.b.mu.Unlock()
	list := r.dial4()
	for i, uid := range []uint32{alice, alice, bob} {
		path := r.bands(fmt.Sprint("mac", i), 1)
		p := r.dialAs(uid)
		g := p.granted(detached(path))
		_, altered := list.listed(true)
		if unwatched := slices.ContainsFunc(altered, func(a wire.Alteration) bool { return a.ID == g[0].ID && a.Unwatched }); unwatched != (i == 1) {
			t.Errorf("hold %d, of uid %d: unwatched %v", i, uid, unwatched)
		}
	}
}

func TestRecordsOfAlterationsAreLimitedAndNoHoldEndsWithoutItsOwn(t *testing.T) {
	var clock still
	r := newRig(t, clock.drive)
	r.b.mu.Lock()
	r.b.alters.burst = 2
	r.b.mu.Unlock()
	p := r.dial4()
	for i := range 5 {
		path := r.bands(fmt.Sprint("mac", i), 1)
		p.granted(attached(path))
		must(t, os.Remove(path+"/bands/0"))
		p.altered()
	}
	if recs := r.records(audit.EventAltered); len(recs) != 2 {
		t.Errorf("%d records, want 2", len(recs))
	}
	p.conn.Close()
	eventually(t, "all have ended, and their records have what was left out", func() bool { return len(r.records(audit.EventAltered)) == 5 })
	clock.forward(r, time.Minute)
	eventually(t, "it is counted", func() bool { return len(r.records(audit.EventSuppressed)) == 1 })
	r.unwatched()
}

func TestHoldsThatEndWhileTheirFilesGoLeaveNoWatch(t *testing.T) {
	r := newRig(t, nil)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for i := range 3 {
		path, p := r.bands(fmt.Sprint("mac", i), 1), r.dial4()
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				os.WriteFile(fmt.Sprint(path, "/bands/", n), nil, 0o644)
				os.Remove(fmt.Sprint(path, "/bands/", n))
			}
		})
		for range 30 {
			g := p.granted(attached(path))
			p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		}
	}
	close(stop)
	all.Wait()
	r.checkReplay()
	r.unwatched()
}

func TestWhatIsDeletedRightBeforeTheReleaseIsToldWithIt(t *testing.T) {
	r := newRig(t, nil)
	path, p := r.bands("mac", 200), r.dial4()
	g := p.granted(attached(path))
	for i := range 200 {
		must(t, os.Remove(fmt.Sprintf("%s/bands/%x", path, i)))
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	if recs := r.records(audit.EventAltered); len(recs) == 0 || recs[len(recs)-1].Count != 200 {
		t.Errorf("recorded %+v", recs)
	}
	last := p.altered()
	for last.Count < 200 { // an event that does not come fails the test
		last = p.altered()
	}
	r.unwatched()
}

func TestThatEventsWereLostRightBeforeTheReleaseIsToldWithIt(t *testing.T) {
	r := newRig(t, nil)
	p := r.dial4()
	id := p.granted(attached(r.bands("mac", 1)))[0].ID
	r.b.mu.Lock()
	h := r.b.table.byID(id)
	h.info.changes.final.Missed = true
	r.b.lastAltered(h)
	r.b.mu.Unlock()
	if last := p.altered(); !last.Missed || last.Count != 0 {
		t.Errorf("told %+v", last)
	}
}
