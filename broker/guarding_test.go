package broker

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

const guardedRests = idleRests | wire.RestGuard

func TestWhileABundleIsHeldTheServerOpensNothingBelowItAndOthersDo(t *testing.T) {
	f := newFenced(t, nil)
	base := f.atRest()
	bundle, token := f.mac()
	band := filepath.Join(bundle, "bands", "0")
	must(t, os.WriteFile(band, []byte("content"), 0o644))
	plain := f.file("beside")
	server, other := startOpens(t, f.server), startOpens(t, "/proc/self/exe")
	server.may("write", token, band, plain)
	p := f.dial()
	g := p.granted(attached(bundle, plain))
	if g[0].Rests != guardedRests || g[1].Rests != wire.RestOFD|wire.RestFlock {
		t.Errorf("rest on %v and %v", g[0].Rests.Names(), g[1].Rests.Names())
	}
	for _, how := range []string{"read", "write", "truncate"} {
		server.mayNot(how, token, band)
	}
	server.mayNot("create", filepath.Join(bundle, "bands", "1"))
	server.may("write", plain)
	other.may("read", token, band)
	if text, err := os.ReadFile(band); err != nil || string(text) != "content" {
		t.Errorf("the band has %q, %v", text, err)
	}
	if rests := p.restsOfRow(g[0].ID); rests != guardedRests {
		t.Errorf("listed as resting on %v", rests.Names())
	}
	f.checkReplay()
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	server.may("write", token, band)
	p.conn.Close()
	for _, rec := range f.records(audit.EventGrant) {
		if rec.Path == bundle && !slices.Equal(rec.Rests, []string{"ofd", "flock", "idle", "guard"}) {
			t.Errorf("recorded as %v", rec.Rests)
		}
	}
	base.descriptors += 2 * 3 // of each program two pipes and a pidfd
	f.settles(base)
	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	if n := len(f.b.guarding.wards); n != 0 {
		t.Errorf("%d wards are left", n)
	}
}

func TestAServerThatHasTheBundleOpenIsNotDisturbed(t *testing.T) {
	f := newFenced(t, nil)
	bundle, token := f.mac()
	band := filepath.Join(bundle, "bands", "0")
	must(t, os.WriteFile(band, nil, 0o644))
	server := startOpens(t, f.server)
	server.may("keep", token)
	p := f.dial()
	if e := p.refused(try(attached(bundle))); e.Code != wire.CodeBusy {
		t.Fatalf("%+v", e)
	}
	id := p.send(attached(bundle))
	p.queued(id)
	server.may("write", band, token)
	server.may("drop", "-")
	rest(t, grants(t, p.answer(id)), guardedRests)
	server.mayNot("write", band, token)
}

// The guard is told when a bundle was found idle; between the two somebody may open it.
func TestWhoOpensABundleBeforeTheGuardKnowsIsFound(t *testing.T) {
	f := newFenced(t, nil)
	bundle, token := f.mac()
	server := startOpens(t, f.server)
	arrived, goOn := f.pauseWards()
	p := f.dial()
	id := p.send(attached(bundle))
	<-arrived
	server.may("keep", token)
	goOn()
	p.queued(id)
	server.may("write", token)
	server.may("drop", "-")
	rest(t, grants(t, p.answer(id)), guardedRests)
	server.mayNot("write", token)
}

func TestABundleThatIsReplacedBeforeTheGuardKnowsIsFollowed(t *testing.T) {
	f := newFenced(t, nil)
	bundle, token := f.mac()
	server := startOpens(t, f.server)
	arrived, goOn := f.pauseWards()
	p := f.dial()
	id := p.send(attached(bundle))
	<-arrived
	must(t, os.Rename(bundle, bundle+".old"))
	f.mac()
	goOn()
	rest(t, grants(t, p.answer(id)), guardedRests)
	server.mayNot("write", token)
	server.may("write", filepath.Join(bundle+".old", "token"))
}

func TestAClaimThatIsTakenBackWhileTheGuardIsAskedLeavesNothing(t *testing.T) {
	f := newFenced(t, nil)
	base := f.atRest()
	bundle, token := f.mac()
	arrived, goOn := f.pauseWards()
	p := f.dial()
	id := p.send(attached(bundle))
	<-arrived
	p.answer(p.send(&wire.Cancel{Target: id}))
	goOn()
	if e := asError(t, p.answer(id)); e.Code != wire.CodeCanceled {
		t.Errorf("%+v", e)
	}
	p.conn.Close()
	f.settles(base)
	startOpens(t, f.server).may("write", token)
}

func TestWhenTheGuardDiesHoldsSaySoAndTheNextOneIsToldOfThem(t *testing.T) {
	f := newFenced(t, nil)
	eventually(t, "the guard is recorded", func() bool { return len(f.guardRecords(guardOn)) == 1 })
	bundle, token := f.mac()
	server := startOpens(t, f.server)
	p := f.dial()
	g := p.granted(detached(bundle))
	rest(t, g, guardedRests)
	server.mayNot("write", token)
	f.fell()
	f.awaitState("down")
	if rests := p.restsOfRow(g[0].ID); rests != idleRests {
		t.Errorf("without a guard it is listed as resting on %v", rests.Names())
	}
	server.may("write", token)
	f.raise()
	eventually(t, "the hold is guarded again", func() bool { return p.restsOfRow(g[0].ID) == guardedRests })
	server.mayNot("write", token)
	eventually(t, "the next one is recorded, when it knows all", func() bool { return len(f.guardRecords(guardOn)) > 1 })
	gone, on := f.guardRecords(guardGone), f.guardRecords(guardOn)
	if n := len(gone); n == 0 || gone[0].Count != 1 {
		t.Errorf("the end of the guard is recorded as %+v", gone)
	}
	if n := len(on); n != 2 || on[0].Count != 0 || on[1].Count != 1 {
		t.Errorf("the guards are recorded as %+v", on)
	}
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	server.may("write", token)
}

func TestANewBrokerGuardsWhatTheOldOneHeld(t *testing.T) {
	f, s := newKeptFenced(t)
	bundle, token := f.mac()
	server := startOpens(t, f.server)
	g := f.dial2().granted(detached(bundle))
	server.mayNot("write", token)
	s.crash()
	eventually(t, "nobody is refused for a broker that is gone", func() bool { return server.can("write", token) })
	s.back()
	p := f.dial()
	eventually(t, "the hold is guarded again", func() bool { return p.restsOfRow(g[0].ID) == guardedRests })
	server.mayNot("write", token)
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	server.may("write", token)
}

func TestAReloadSaysWhoIsRefusedFromThenOn(t *testing.T) {
	f := newFenced(t, nil)
	bundle, token := f.mac()
	first, second := startOpens(t, f.server), startOpens(t, program(t, "otherserver"))
	p := f.dial()
	g := p.granted(detached(bundle))
	first.mayNot("write", token)
	second.may("write", token)
	change := func(programs ...string) {
		f.programs = programs
		if _, err := f.b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	name, err := os.Readlink("/proc/self/exe")
	must(t, err)
	change(filepath.Join(t.TempDir(), "nobody"))
	eventually(t, "the first may open again, and the hold rests on the new guard", func() bool {
		return first.can("write", token) && p.restsOfRow(g[0].ID) == guardedRests
	})
	change()
	f.awaitState("off")
	eventually(t, "it rests on no guard", func() bool { return p.restsOfRow(g[0].ID) == idleRests })
	if n := len(f.guardRecords(guardOff)); n != 1 {
		t.Errorf("%d records say that nobody is refused any more", n)
	}
	second.may("write", token)
	change(f.server, name)
	f.awaitState("on")
	eventually(t, "it rests on the guard", func() bool { return p.restsOfRow(g[0].ID) == guardedRests })
	first.mayNot("write", token)
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
}

func TestWithoutAGuardLocksGoOnAndTheLogSaysWhy(t *testing.T) {
	f := newFenced(t, asLockerd)
	bundle, _ := f.mac()
	f.mu.Lock()
	f.fail = errors.New("there is none today")
	f.mu.Unlock()
	f.fell()
	f.awaitState("down")
	p := f.dial()
	g := p.granted(attached(bundle)) // after guardPatience, since it may come back
	rest(t, g, idleRests)
	eventually(t, "the log says why", func() bool {
		return slices.ContainsFunc(f.guardRecords(guardGone), func(r audit.Record) bool { return r.Text == "there is none today" })
	})
	if n := len(f.guardRecords(guardGone)); n != 2 {
		t.Errorf("%d records say it; want one of the end, and one of why there is no other", n)
	}
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	f.raise()
	eventually(t, "the hold is guarded after all", func() bool { return p.restsOfRow(g[0].ID) == guardedRests })
}

func TestAGuardThatHangsKeepsNobodyWaitingForLong(t *testing.T) {
	f := newFenced(t, asLockerd)
	bundle, token := f.mac()
	must(t, f.guard.cmd.Process.Signal(unix.SIGSTOP))
	p := f.dial()
	g := p.granted(attached(bundle))
	rest(t, g, idleRests)
	startOpens(t, f.server).may("write", token)
	must(t, f.guard.cmd.Process.Signal(unix.SIGCONT))
	eventually(t, "the hold is guarded when the guard goes on", func() bool { return p.restsOfRow(g[0].ID) == guardedRests })
}

func TestRefusalsAreRecordedAtOnceAndThenSeldom(t *testing.T) {
	var c clocks
	f := newFenced(t, c.drive)
	bundle, token := f.mac()
	server := startOpens(t, f.server)
	p := f.dial()
	g := p.granted(attached(bundle))
	refused := func() (records int, sum uint64) {
		for _, rec := range f.guardRecords(guardRefused) {
			if rec.ID != g[0].ID || rec.Path != bundle || rec.Text != f.server || rec.PID == 0 {
				t.Fatalf("recorded as %+v", rec)
			}
			sum += rec.Count
		}
		return len(f.guardRecords(guardRefused)), sum
	}
	server.mayNot("write", token)
	eventually(t, "the first is recorded", func() bool { n, _ := refused(); return n == 1 })
	for range 500 {
		server.mayNot("read", token)
	}
	eventually(t, "the others have been told of", func() bool {
		f.b.mu.Lock()
		defer f.b.mu.Unlock()
		var left uint32
		for _, w := range f.b.guarding.wards {
			for _, e := range w.left {
				left += e.Count
			}
		}
		return left == 500
	})
	if n, _ := refused(); n != 1 {
		t.Errorf("%d records within a minute", n)
	}
	c.pass(f.rig, refusalPause)
	server.mayNot("write", token)
	eventually(t, "what has come together is recorded after a minute", func() bool { n, sum := refused(); return n == 2 && sum == 502 })
	server.mayNot("write", token)
	eventually(t, "one more is known of", func() bool {
		f.b.mu.Lock()
		defer f.b.mu.Unlock()
		for _, w := range f.b.guarding.wards {
			return len(w.left) == 1 && w.left[0].Count == 1
		}
		return false
	})
	p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	if n, sum := refused(); n != 3 || sum != 503 {
		t.Errorf("%d records of %d refusals; want 3 of 503", n, sum)
	}
}

func TestWhatTheGuardHasNoRoomForIsHeldWithoutIt(t *testing.T) {
	f := newFenced(t, nil)
	bundle, token := f.mac()
	server := startOpens(t, f.server)
	f.guard.limitFiles(10) // its own are more
	p := f.dial()
	g := p.granted(attached(bundle))
	rest(t, g, idleRests)
	server.may("write", token)
	found := f.guardRecords(guardUnguarded)
	if len(found) != 1 || found[0].Path != bundle || found[0].ID != g[0].ID || found[0].Text == "" {
		t.Errorf("recorded as %+v", found)
	}
}

func TestWithoutGuardInThePolicyNobodyIsAsked(t *testing.T) {
	f := newFenced(t, nil)
	f.programs = nil
	if _, err := f.b.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.awaitState("off")
	bundle, token := f.mac()
	server := startOpens(t, f.server)
	rest(t, f.dial().granted(attached(bundle)), idleRests)
	server.may("read", token)
}
