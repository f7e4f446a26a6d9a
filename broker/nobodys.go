package broker

import (
	"cmp"
	"errors"

	"locker/audit"
	"locker/flock"
	"locker/keeper"
	"locker/wire"
)

// nobody is the uid of who is not known: no user has it, and no rule of a policy matches it.
const nobody = 1<<32 - 1

// recoverNobodys takes over a copy that neither its blob nor the log explains: a broker of another version has put it, and the log was
// lost. Somebody may have been promised it. What the kernel says of the descriptor is all that is known, so it is an orphan, held until
// root breaks it. False if there is nobody who could have it, and then it is let go.
func (x *restoring) recoverNobodys(e keeper.Entry, seen *flock.Examined) bool {
	path := nameOf(e.Lock)
	file, m, err := adoptAny(seen, path)
	switch {
	case isShortage(err):
		x.fail(err)
		x.closeAside(e)
		return false
	case err != nil: // it was being released
		x.closeAside(e)
		return false
	case x.whole || e.Holder >= 0 && dead(e.Holder): // never answered, since the log would know it; or its process has ended
		x.letGoOf(file)
		closeHolder(e)
		return false
	}
	closeHolder(e)
	g := audit.Record{
		Seq: e.ID, ID: e.ID, Event: audit.EventGrant, Time: x.now(), Boot: x.boot(), Peer: true, UID: nobody, GID: nobody,
		Path: path, Dev: file.ID.Dev, Ino: file.ID.Ino, Mode: m.String(), Rests: restNames[restsOf(file)], Life: wire.Detached.String(),
	}
	h := &hold{id: e.ID, key: keyOf(file.ID), owner: owner{uid: nobody}, uid: nobody, mode: tableMode(&g)}
	x.enterRestored(h, x.infoOfRecord(&g, file), nil)
	x.record(g, audit.EventResume, "neither the log nor the keeper tells whose it is")
	x.logger.Warn("held on as nobody's: root can break it", "id", e.ID, "path", path)
	return true
}

// adoptAny is Adopt for a lock of which not even the mode is known.
func adoptAny(seen *flock.Examined, path string) (*flock.File, flock.Mode, error) {
	f, err := seen.Adopt(path, path, flock.Exclusive)
	if !errors.Is(err, flock.ErrNotHeld) {
		return f, flock.Exclusive, err
	}
	f, err = seen.Adopt(path, path, flock.Shared)
	return f, flock.Shared, err
}

// nameOf gives the present name of a file whose path is not on record. Never none: a record without a path describes no lock.
func nameOf(fd int) string { return cmp.Or(flock.NameOf(fd), "(unknown)") }
