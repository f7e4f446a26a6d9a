package broker

import (
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/flock"
	"locker/wire"
)

const leaseOver = "its lease is over"

// Whoever can open a file can lock it for a moment, by chance or again and again. So files that are in use are tried again for so long,
// all of them together, with a pause before each round: a start takes that much longer, and what a round takes, as where a server has to
// be asked.
const (
	retakePatience = 50 * time.Millisecond
	leastRounds    = 8 // however long they take: who lets go between two of them is not to depend on how busy the machine is
	roundPause     = 2 * time.Millisecond
)

// What the record of a hold says that is claimed again.
const (
	claimedAgain = "claimed again"
	againInUse   = "claimed again, while somebody has it open: it does not rest on idle any more"
)

const triedAgain = "files of locks are in use; tried again"

// fromLogAll deals with all holds of the log that the keeper does not have.
func (x *restoring) fromLogAll() {
	left := slices.Sorted(maps.Keys(x.known))
	end := time.Now().Add(retakePatience)
	for round := 1; ; round++ {
		last := round >= leastRounds && time.Now().After(end)
		left = slices.DeleteFunc(left, func(id uint64) bool { return x.failed == nil && x.fromLog(id, last) })
		if len(left) == 0 || x.failed != nil {
			return
		}
		x.logger.Debug(triedAgain, "count", len(left))
		time.Sleep(roundPause)
	}
}

// fromLog deals with a hold of the log that the keeper does not have. False: its file is in use, and it is worth another try, as it
// never is in the last round.
func (x *restoring) fromLog(id uint64, last bool) bool {
	old, _ := x.log.Replayed().Get(id)
	g := old.Grant
	attached := g.Life == wire.Attached.String()
	pidfd := -1
	switch {
	case x.past.Complete:
		x.record(g, audit.EventRelease, "it was let go, or not answered yet, when lockerd died")
		return true
	case attached && g.Request == 0: // its client cannot come back
		x.record(g, audit.EventDeath, "lockerd was not running any more")
		return true
	case attached && !x.sameBoot:
		x.record(g, audit.EventDeath, "the machine was started anew")
		return true
	case attached:
		if pidfd = x.processOf(g.PID, g.Start); x.failed != nil {
			return true
		}
		if pidfd < 0 {
			x.record(g, audit.EventDeath, "its process died while lockerd was not running")
			return true
		}
	case !g.Expires.IsZero() && x.beganOf(&g)+g.Expires.Sub(g.Time) <= x.boot():
		x.record(g, audit.EventExpire, leaseOver)
		return true
	}
	again, want := claimedAgain, wantAgain(&g)
	f, text, err := x.lockAgain(&g, want)
	if last && errors.Is(err, flock.ErrInUse) { // perhaps the holder's own job: that it is open does not make the lock another's
		again, want.InUse = againInUse, true
		f, text, err = x.lockAgain(&g, want)
	}
	if f == nil {
		if pidfd >= 0 {
			unix.Close(pidfd)
		}
		switch {
		case isShortage(err):
			x.fail(err)
		case errors.Is(err, flock.ErrBusy) && !last:
			return false
		default:
			x.lose(g, text)
		}
		return true
	}
	info := x.infoOfRecord(&g, f)
	g.Rests = restNames[info.rests] // a file may have become executable since
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
	x.record(g, audit.EventResume, again)
	x.fresh = append(x.fresh, h)
	return true
}

// wantAgain is what a hold of the log is claimed again with. Whether others have the file open is asked anew if it rested on that, and
// never else. Where it cannot be found out any more a bundle's is held without, as when it was granted.
func wantAgain(g *audit.Record) flock.Want {
	idle, bundle := restsOnIdle(g), g.Target != "" || flock.IsToken(g.Path)
	return flock.Want{Mode: modeOfRecord(g), Hardlinks: true, Engines: enginesOf(g), Idle: idle && !bundle, InUse: !idle}
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

// restsOnIdle reports whether nobody else had the file open when it was granted.
func restsOnIdle(g *audit.Record) bool { return slices.Contains(g.Rests, wire.RestIdle.Names()[0]) }

// A server may be down since before, or slow, and nobody is served until all old holds are dealt with. So each may keep lockerd from starting
// for networkPatience until networkPatiences of that are used up, by answers as well, and then for networkMoment; what does not answer at all
// is below what a service manager waits for a start (90 s) by that. Each of these has a thread of its own, see slow.go: where so many have
// not answered, no more are tried.
const (
	networkPatience  = 5 * time.Second
	networkPatiences = 3
	networkMoment    = 200 * time.Millisecond
	networkSilent    = 64  // of one file system
	networkSilentAll = 300 // of all
)

const noAnswer = "its file system does not answer"

// lockAgain opens and locks the file of an old hold, or says in words why it cannot; err is the cause, if there is one.
func (x *restoring) lockAgain(g *audit.Record, w flock.Want) (f *flock.File, text string, err error) {
	opener := x.rules.Load().opener
	try := func() (*flock.File, string, error) {
		f, err := opener.Open(g.Path, w)
		if err != nil {
			return nil, "it cannot be opened again: " + errText(err), err
		}
		if f.ID != (flock.ID{Dev: g.Dev, Ino: g.Ino}) {
			f.Close()
			return nil, "another file stands under this name now", nil
		}
		if err := f.TryLock(w.Mode); err != nil {
			f.Close()
			return nil, "it cannot be locked again: " + errText(err), err
		}
		return f, "", nil
	}
	if !opener.Network(g.Path) {
		return try()
	}
	return x.within(g.Dev, try)
}

// within is what try gives for a file of a network file system, or that it has not answered; a lock that it gives too late is let go of.
func (x *restoring) within(dev uint64, try func() (*flock.File, string, error)) (f *flock.File, text string, err error) {
	if x.silent[dev] >= networkSilent || x.silentAll >= networkSilentAll {
		return nil, noAnswer, nil
	}
	type result struct {
		f    *flock.File
		text string
		err  error
	}
	done := make(chan result, 1)
	x.work.Go(func() {
		f, text, err := try()
		done <- result{f, text, err}
	})
	patience := x.times.server
	if x.waited >= networkPatiences*patience {
		patience = networkMoment
	}
	began := time.Now()
	defer func() { x.waited += time.Since(began) }()
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case r := <-done:
		return r.f, r.text, r.err
	case <-over.C:
		select {
		case r := <-done: // at the same moment
			return r.f, r.text, r.err
		default:
		}
		x.silent[dev]++
		x.silentAll++
		x.work.Go(func() {
			if r := <-done; r.f != nil {
				r.f.Unlock()
				r.f.Close()
			}
		})
		return nil, noAnswer, nil
	}
}
