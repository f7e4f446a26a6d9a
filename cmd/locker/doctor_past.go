package main

import "slices"

// What clients of a file server can do in spite of a lock. The tests in fileservers try each word with the servers themselves.

const (
	pastOpen     = "open"
	pastRead     = "read"
	pastWrite    = "write"
	pastLock     = "lock"     // a range of bytes
	pastOplock   = "oplock"   // read and write, with an oplock or a lease
	pastTruncate = "truncate" // opened to be truncated the file is empty, whatever the answer is
	pastDelete   = "delete"
	pastRename   = "rename"
	pastBands    = "bands" // do all this to the other files of a bundle, on which there is no lock
)

// everything is also what somebody can do of whom nothing is known.
func everything() []string {
	return []string{pastOpen, pastRead, pastWrite, pastLock, pastOplock, pastTruncate, pastDelete, pastRename}
}

// tellPast completes the verdicts.
func (e *examination) tellPast() {
	smbd, afpd := e.lockerd.guard.denies("smbd", e.samba.smbd), e.lockerd.guard.denies("afpd", e.netatalk.serves)
	for i := range e.verdicts {
		v := &e.verdicts[i]
		denied := v.server == "samba" && smbd || v.server == "netatalk" && afpd
		w, bundle := usual().by(denied, nil), false
		if at := slices.IndexFunc(e.paths, func(p pathReport) bool { return p.path == v.path }); at >= 0 {
			p := &e.paths[at]
			w, bundle = p.worth().by(denied, p), p.kind == kindBundle
		}
		v.past = everything()
		switch v.server {
		case "samba":
			if at := slices.IndexFunc(e.samba.shares, func(s share) bool { return s.name == v.name }); at >= 0 {
				v.past = pastShare(e.samba.shares[at], w)
			}
		case "netatalk":
			v.past = pastNetatalk(w)
		}
		if !bundle || len(v.past) == 0 || w.guard == guardsBundle && !slices.Contains(v.past, pastOpen) {
			continue
		}
		v.past = append(v.past, pastBands)
		if v.kept == keptYes || v.kept == keptPartly {
			if v.why == "" {
				v.why = byToken
			}
			v.why = join(v.why, whyBands)
		}
	}
}

// pastShare is for a hold that is worth w.
func pastShare(s share, w worth) []string {
	k := judgeLocks("", s, w).kept
	switch {
	case !s.available:
		return nil
	case s.seen() && (w.guard == guardsBundle || w.guard == guardsWithin && s.forced()):
		return []string{pastDelete, pastRename}
	case k == keptYes:
		return []string{pastTruncate, pastDelete, pastRename}
	case k == keptPartly && s.strict == "auto" && s.oplocks:
		return []string{pastOpen, pastOplock, pastTruncate, pastDelete, pastRename}
	case k == keptPartly:
		return []string{pastOpen, pastTruncate, pastDelete, pastRename}
	case k == keptNo && w.ofd == keptYes && s.lax():
		return []string{pastOpen, pastRead, pastWrite, pastOplock, pastTruncate, pastDelete, pastRename}
	}
	return everything()
}

// lax reports whether kernel locks are looked at, but only by who locks.
func (s *share) lax() bool {
	return s.locking && s.posix && !s.forced() && s.strict == "no" && s.seen()
}

// pastNetatalk is likewise. To delete a file, afpd opens it.
func pastNetatalk(w worth) []string {
	if w.ofd == keptYes || w.guard == guardsBundle {
		return []string{pastRename}
	}
	return everything()
}
