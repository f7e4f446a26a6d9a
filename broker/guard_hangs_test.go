package broker

import (
	"sync"
	"testing"
	"time"

	"locker/wire"
)

func TestAGuardThatHangsDoesNotStopTheClock(t *testing.T) {
	var c clocks
	lifting, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	r := mocked(t, c.drive, func(kind byte) bool {
		if kind == asksLift {
			first.Do(func() { close(lifting) })
			<-goOn
		}
		return true
	})
	end := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(end)
	eventually(t, "the guard is there", func() bool { s, _ := r.b.guardState(); return s == wire.GuardOn })
	p := r.dial()
	bundle, _ := r.mac()
	lease := func(path string, d time.Duration) wire.Grant {
		m := detached(path)
		m.TTL = d
		return p.granted(m)[0]
	}
	guarded, plain := lease(bundle, time.Minute), lease(r.file("plain"), 2*time.Minute)
	c.pass(r, time.Minute)
	<-lifting
	c.pass(r, time.Minute)
	held := func(id uint64) bool {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		return r.b.table.byID(id) != nil
	}
	eventually(t, "the other lease has ended", func() bool { return !held(plain.ID) })
	if !held(guarded.ID) {
		t.Error("it has waited for the guard")
	}
	end()
	eventually(t, "the first lease has ended", func() bool { return !held(guarded.ID) })
}

// A disk that hangs keeps the directories of a bundle from being read for the next guard.
func TestALockerdWhoseBundleHangsHandsOver(t *testing.T) {
	f, s := newKeptFenced(t)
	bundle, _ := f.mac()
	f.dial2().granted(detached(bundle))
	f.fell()
	f.awaitState("down")
	arrived, goOn := f.pauseWards()
	f.raise()
	<-arrived
	f.b.HandOver()
	f.stop()
	select {
	case err := <-f.ended:
		if err != nil {
			t.Error(err)
		}
		goOn()
	case <-time.After(patience):
		t.Error("it waits for the bundle")
		goOn()
		<-f.ended
	}
	f.rig.stop = nil
	s.forget(f.b)
	must(t, f.log.Close())
}

func TestAGuardThatHangsKeepsNoOtherFileLocked(t *testing.T) {
	lifting, goOn := make(chan struct{}), make(chan struct{})
	r := mocked(t, nil, func(kind byte) bool {
		if kind == asksLift {
			close(lifting)
			<-goOn
		}
		return true
	})
	end := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(end)
	eventually(t, "the guard is there", func() bool { s, _ := r.b.guardState(); return s == wire.GuardOn })
	p := r.dial()
	bundle, _ := r.mac()
	plain := r.file("plain")
	p.granted(detached(bundle))
	p.granted(detached(plain))
	id := p.send(&wire.Unlock{By: wire.ByAll})
	<-lifting
	if !isFree(t, plain) {
		t.Error("it waits for the guard")
	}
	end()
	p.answer(id)
}
