package broker

import (
	"testing"
	"time"

	"locker/wire"
)

func TestAWatchTellsOfEveryKindOfChangeUntilItIsCancelled(t *testing.T) {
	var clock still
	r := newRig(t, clock.drive)
	base := r.atRest()
	path, outside := r.file("a"), r.file("b")
	w, p, q := r.dial(), r.dial(), r.dial()
	id := w.send(&wire.Watch{})
	isChanged := func(got uint32, m wire.Message) bool { return got == id && m.Type() == wire.TypeChanged }
	w.until(isChanged) // at once, so that the client lists
	if e := w.refused(&wire.Watch{}); e.Code != wire.CodeInvalid {
		t.Errorf("%+v", e)
	}
	graced := attached(path)
	graced.Grace = time.Second
	lease := detached(path)
	lease.TTL = time.Minute
	var waits uint32
	f := outsideLock(t, outside)
	for _, c := range []struct {
		name   string
		change func()
	}{
		{"a grant", func() { p.granted(graced) }},
		{"a wait", func() { waits = q.send(attached(path)); q.queued(waits) }},
		{"a cancel", func() { q.answer(q.send(&wire.Cancel{Target: waits})) }},
		{"a wait for somebody outside", func() { waits = q.send(attached(outside)); q.queued(waits) }},
		{"the end of that wait", func() { q.answer(q.send(&wire.Cancel{Target: waits})) }},
		{"a break", func() { q.answer(q.send(&wire.Break{By: wire.ByPath, Path: path, Reason: "x"})) }},
		{"the end of the grace", func() { clock.forward(r, time.Second) }},
		{"another grant", func() { p.granted(lease) }},
		{"the end of a lease", func() { clock.forward(r, time.Minute) }},
		{"a third grant", func() { p.granted(attached(path)) }},
		{"a release", func() { p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}})) }},
		{"a fourth grant", func() { p.granted(attached(path)) }},
		{"a disconnect", func() { p.conn.Close() }},
		{"a reload", func() { r.b.Reload(t.Context()) }},
	} {
		eventually(t, "what has changed before is told", func() bool {
			r.b.mu.Lock()
			defer r.b.mu.Unlock()
			return !r.b.ticking
		})
		w.answer(w.send(&wire.Status{}))
		w.kept = nil
		c.change()
		t.Log(c.name)
		w.until(isChanged)
	}
	f.Close()
	w.answer(w.send(&wire.Cancel{Target: id}))
	w.until(func(got uint32, m wire.Message) bool {
		e, ok := m.(*wire.Error)
		return ok && got == id && e.Code == wire.CodeCanceled
	})
	again := w.send(&wire.Watch{})
	w.until(func(got uint32, m wire.Message) bool { return got == again && m.Type() == wire.TypeChanged })
	w.conn.Close()
	q.conn.Close()
	r.settles(base)
}
