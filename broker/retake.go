package broker

import (
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/flock"
	"locker/wire"
)

const leaseOver = "its lease is over"

// fromLog deals with a hold of the log that the keeper does not have.
func (x *restoring) fromLog(old audit.Hold) {
	g := old.Grant
	attached := g.Life == wire.Attached.String()
	pidfd := -1
	switch {
	case x.past.Complete && !x.stopped:
		x.record(g, audit.EventRelease, "it was let go, or not answered yet, when lockerd died")
		return
	case attached && g.Request == 0: // its client cannot come back
		x.record(g, audit.EventDeath, "lockerd was not running any more")
		return
	case attached && !x.sameBoot:
		x.record(g, audit.EventDeath, "the machine was started anew")
		return
	case attached:
		if pidfd = sameAsThen(g.PID, g.Start); pidfd < 0 {
			x.record(g, audit.EventDeath, "its process died while lockerd was not running")
			return
		}
	case !g.Expires.IsZero() && x.beganOf(&g)+g.Expires.Sub(g.Time) <= x.boot():
		x.record(g, audit.EventExpire, leaseOver)
		return
	}
	f, text := x.lockAgain(&g, flock.Want{Mode: modeOfRecord(&g), Hardlinks: true, Engines: enginesOf(&g)})
	if f == nil {
		x.lose(g, text)
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
		return
	}
	info := x.infoOfRecord(&g, f)
	g.Rests = restNames[info.rests&3] // a file may have become executable since
	g.Gap = x.idle
	h := &hold{id: g.Seq, key: keyOf(f.ID), owner: owner{uid: g.UID, tag: g.Tag}, uid: g.UID, mode: tableMode(&g), ending: old.Ending}
	if attached {
		info.who.peer.PidFD = pidfd
		h.owner = owner{uid: g.UID, session: g.Session}
		info.session = x.addAway(g.Session, info.who, resumeVersion)
		info.who = info.session.who
	} else if x.sameBoot && info.resumes {
		x.awaitAsker(info)
	}
	x.enterRestored(h, info, nil)
	x.record(g, audit.EventResume, "claimed again")
	x.fresh = append(x.fresh, h)
}

func enginesOf(g *audit.Record) (e flock.Engines) {
	for _, r := range g.Rests {
		switch r {
		case "ofd":
			e |= flock.OFD
		case "flock":
			e |= flock.BSD
		}
	}
	return e
}

// networkPatience is how long one hold on a network file system may keep lockerd from starting.
const networkPatience = 5 * time.Second

// lockAgain opens and locks the file of an old hold, or says why it cannot.
func (b *Broker) lockAgain(g *audit.Record, w flock.Want) (*flock.File, string) {
	opener := b.rules.Load().opener
	try := func() (*flock.File, string) {
		f, err := opener.Open(g.Path, w)
		if err != nil {
			return nil, "it cannot be opened again: " + errText(err)
		}
		if f.ID != (flock.ID{Dev: g.Dev, Ino: g.Ino}) {
			f.Close()
			return nil, "another file stands under this name now"
		}
		if err := f.TryLock(w.Mode); err != nil {
			f.Close()
			return nil, "it cannot be locked again: " + errText(err)
		}
		return f, ""
	}
	if !opener.Network(g.Path) {
		return try()
	}
	type result struct {
		f    *flock.File
		text string
	}
	done := make(chan result, 1)
	b.work.Go(func() { // may hang for as long as a server does not answer
		f, text := try()
		done <- result{f, text}
	})
	over := time.NewTimer(networkPatience)
	defer over.Stop()
	select {
	case r := <-done:
		return r.f, r.text
	case <-over.C:
		b.work.Go(func() {
			if r := <-done; r.f != nil {
				r.f.Unlock()
				r.f.Close()
			}
		})
		return nil, "its file system does not answer"
	}
}
