package broker

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// hour is a clock that is set by hand; at zero it is the machine's, moved by ahead.
type hour struct{ at, ahead atomic.Int64 }

func (h *hour) now() time.Time {
	if at := h.at.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Now().Add(time.Duration(h.ahead.Load()))
}

const quietRule = "allow = [\"FILES\"]\n[[rule]]\nusers = [1000]\npaths = [\"FILES\"]\nquiet = \"30s\"\ncan = [\"lock\", \"list\"]\n"

// hushed is a rig whose clients are uid 1000, for whom a rule asks for quiet. Its broker's clock is h.
func hushed(text string, h *hour) func(*rig) {
	return func(r *rig) {
		r.policy = rules(r.files, text)
		r.alter = func(_ *audit.Config, c *Config) {
			c.Now = h.now
			c.peerOf = func(conn *net.UnixConn) (authz.Peer, error) {
				real, err := peerOf(conn)
				p := authz.PeerFor(1000, 1000, nil)
				p.PID, p.PidFD = real.PID, real.PidFD
				return p, err
			}
		}
	}
}

func second(text string) string { return strings.Replace(text, "30s", "1s", 1) }

// write writes a band of the bundle and gives its time.
func write(t testing.TB, bundle string) time.Time {
	t.Helper()
	must(t, os.WriteFile(bundle+"/bands/0", []byte("x"), 0o644))
	return writtenAt(t, bundle)
}

// writtenAt is the newest time in a bundle, as the laws of package flock have it.
func writtenAt(t testing.TB, bundle string) (newest time.Time) {
	t.Helper()
	must(t, filepath.WalkDir(bundle, func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if at := time.Unix(st.Ctim.Unix()); at.After(newest) {
			newest = at
		}
		return err
	}))
	return newest
}

func TestABundleIsGrantedWhenNothingBelowItWasWrittenForAsLongAsTheRuleAsks(t *testing.T) {
	var h hour
	r := newRig(t, func(r *rig) {
		hushed(quietRule, &h)(r)
		alter := r.alter
		r.alter = func(l *audit.Config, c *Config) {
			alter(l, c)
			c.Boot = func() time.Duration { return time.Hour } // no look takes time, and so none has to be paid for with a pause
		}
	})
	bundle, _ := r.mac()
	last := write(t, bundle)
	p := r.dial3()
	for _, c := range []struct {
		after time.Duration
		words string
	}{
		{0, "written 0 s ago; the rule asks for 30 s of quiet"},
		{12500 * time.Millisecond, "written 12 s ago; the rule asks for 30 s of quiet"},
		{30*time.Second - 1, "written 29 s ago; the rule asks for 30 s of quiet"},
		{-time.Hour, "written 0 s ago; the rule asks for 30 s of quiet"},
	} {
		h.at.Store(last.Add(c.after).UnixNano())
		if e := p.refused(try(attached(bundle))); e.Code != wire.CodeBusy || e.Path != bundle || e.Text != c.words {
			t.Errorf("%v after: %+v, want %q", c.after, e, c.words)
		}
		rest(t, p.granted(try(attached(r.file("plain")))), wire.RestOFD|wire.RestFlock) // no bundle
	}
	h.at.Store(last.Add(30 * time.Second).UnixNano())
	rest(t, p.granted(try(attached(bundle))), idleRests)
	write(t, bundle)
	if g := p.granted(try(attached(bundle))); !g[0].Already { // what is held is held
		t.Errorf("%+v", g)
	}
	p.granted(try(attached(bundle, r.file("another")))) // nor is it in the way of a set
	r.checkReplay()
}

func TestWhoWaitsForQuietIsToldAndGrantedOnlyThen(t *testing.T) {
	var h hour
	r := newRig(t, hushed(second(quietRule), &h))
	base := r.atRest()
	bundle, _ := r.mac()
	h.at.Store(write(t, bundle).UnixNano()) // until it waits
	p, q := r.dial3(), r.dial3()
	id := p.send(attached(bundle))
	told := p.queued(id).Blockers
	if len(told) != 1 || told[0].Kind != wire.Outside || told[0].Hidden || told[0].Path != bundle || told[0].PID != 0 ||
		!strings.HasSuffix(told[0].Reason, "s ago; the rule asks for 1 s of quiet") {
		t.Errorf("told %+v", told)
	}
	behind := q.send(attached(bundle))
	q.queued(behind)
	last := write(t, bundle) // again, once it waits
	h.at.Store(0)
	g := grants(t, p.answer(id))
	if early := time.Until(last.Add(time.Second)); early > 0 {
		t.Errorf("granted %v too early", early)
	}
	rest(t, g, idleRests)
	waits := r.records(audit.EventWait)
	if !slices.ContainsFunc(waits, func(w audit.Record) bool { return strings.HasSuffix(w.Text, "the rule asks for 1 s of quiet") }) {
		t.Errorf("recorded: %+v", waits)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	grants(t, q.answer(behind))
	p.conn.Close()
	q.conn.Close()
	r.settles(base)
}

func TestAWaitForQuietIsListedAndEndsAsEveryWaitDoes(t *testing.T) {
	var h hour
	r := newRig(t, hushed(quietRule, &h))
	base := r.atRest()
	bundle, token := r.mac()
	last := write(t, bundle)
	h.at.Store(last.Add(5 * time.Second).UnixNano())
	p := r.dial3()
	reason := "written 5 s ago; the rule asks for 30 s of quiet"
	told := func(what string, list []wire.Blocker) {
		t.Helper()
		if len(list) != 1 || list[0].Reason != reason || list[0].Path != bundle {
			t.Errorf("%s: %+v", what, list)
		}
	}
	e := p.refused(timed(attached(bundle), time.Millisecond))
	if e.Code != wire.CodeTimeout {
		t.Errorf("%+v", e)
	}
	told("too late", e.Blockers)
	id := p.send(attached(bundle))
	told("queued", p.queued(id).Blockers)
	told("where", p.queued(p.send(&wire.Where{Target: id})).Blockers)
	rows := p.rowsOf(p.send(&wire.List{All: true}))
	if !slices.ContainsFunc(rows, func(row wire.Row) bool {
		return row.Kind == wire.RowOutside && row.Path == bundle && row.PID == 0 && row.Reason == reason
	}) {
		t.Errorf("listed: %+v", rows)
	}
	p.answer(p.send(&wire.Cancel{Target: id}))
	if e := asError(t, p.answer(id)); e.Code != wire.CodeCanceled {
		t.Errorf("%+v", e)
	}
	p.queued(p.send(attached(bundle)))
	startChild(t, "lease", token).end() // which is given while nobody else has it open
	p.conn.Close()
	r.settles(base)
}

// What is looked at before the locks are had says nothing: the Mac closes its token last.
func TestQuietIsLookedForWithTheLocksInHand(t *testing.T) {
	var h hour
	r := newRig(t, hushed(second(quietRule), &h))
	bundle, token := r.mac()
	h.ahead.Store(int64(time.Hour)) // it has been quiet for long
	mac := startChild(t, "reader", token)
	p := r.dial3()
	id := p.send(attached(bundle))
	p.queued(id)
	opener(t, mac, bundle, p.inTheWayOf(id))
	h.ahead.Store(0)
	last := write(t, bundle)
	mac.end()
	grants(t, p.answer(id))
	if early := time.Until(last.Add(time.Second)); early > 0 {
		t.Errorf("granted %v too early", early)
	}
}

// The clock was set back by an hour after the bundle was written.
func TestATimeInTheFutureKeepsNobodyOutForLongerThanAWriteWould(t *testing.T) {
	var h hour
	r := newRig(t, hushed(second(quietRule), &h))
	bundle, _ := r.mac()
	write(t, bundle)
	h.ahead.Store(-int64(time.Hour))
	p := r.dial3()
	began := time.Now()
	p.granted(attached(bundle))
	if took := time.Since(began); took < time.Second {
		t.Errorf("granted after %v", took)
	}
}

func TestAReloadThatAsksForNoQuietEndsTheWaitForIt(t *testing.T) {
	var h hour
	var text atomic.Pointer[string]
	first := strings.Replace(quietRule, "30s", "1h", 1)
	text.Store(&first)
	r := newRig(t, func(r *rig) {
		hushed(first, &h)(r)
		r.policy = func() (*authz.Policy, error) { return rules(r.files, *text.Load())() }
	})
	bundle, _ := r.mac()
	p := r.dial3()
	id := p.send(attached(bundle))
	p.queued(id)
	other := strings.Replace(quietRule, "quiet = \"30s\"\n", "", 1)
	text.Store(&other)
	if _, err := r.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	grants(t, p.answer(id))
}

func TestWhereQuietCannotBeFoundOutTheLockIsRefusedWithTheReason(t *testing.T) {
	var h hour
	r := newRig(t, hushed(quietRule, &h))
	bundle, _ := r.mac()
	h.ahead.Store(int64(time.Hour))
	must(t, os.Remove(bundle+"/bands"))
	must(t, os.Symlink("/etc", bundle+"/bands"))
	p := r.dial3()
	if e := p.refused(attached(bundle)); e.Code != wire.CodeUnsupported || e.Path != bundle || !strings.HasPrefix(e.Text, "the rule asks for quiet: ") {
		t.Errorf("%+v", e)
	}
}

// It was granted once; that a Mac got in between is what the record's gap is about.
func TestAHoldThatIsClaimedAgainAsksForNoQuiet(t *testing.T) {
	var h hour
	r, s := withKeeper(t, hushed(quietRule, &h))
	bundle, _ := r.mac()
	h.ahead.Store(int64(time.Hour))
	id := r.dial3().granted(detached(bundle))[0].ID
	s.crash()
	s.end()
	h.ahead.Store(0)
	write(t, bundle)
	s.start()
	s.back()
	if g := r.dial3().granted(try(detached(bundle))); !g[0].Already || g[0].ID != id {
		t.Errorf("%+v, want %d", g, id)
	}
}

func TestWhoHasBundlesLookedThroughPaysForItWithAPause(t *testing.T) {
	var l looks
	l.took(1, 10*time.Second, time.Second)
	for _, c := range []struct {
		uid       uint32
		now, want time.Duration
	}{{1, 10 * time.Second, 4 * time.Second}, {1, 13 * time.Second, time.Second}, {1, 14 * time.Second, 0}, {2, 10 * time.Second, 0}} {
		if got := l.pause(c.uid, c.now); got != c.want {
			t.Errorf("uid %d at %v: %v, want %v", c.uid, c.now, got, c.want)
		}
	}
	l.took(1, 11*time.Second, time.Second)
	if got := l.pause(1, 11*time.Second); got != 7*time.Second {
		t.Errorf("twice: %v", got)
	}
	l.took(2, time.Minute, time.Second)
	if len(l.from) != 1 {
		t.Errorf("nobody is forgotten: %v", l.from)
	}
}
