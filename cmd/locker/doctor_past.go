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
	for i := range e.verdicts {
		v := &e.verdicts[i]
		w, bundle := usual(), false
		if at := slices.IndexFunc(e.paths, func(p pathReport) bool { return p.path == v.path }); at >= 0 {
			w, bundle = e.paths[at].worth(), e.paths[at].kind == kindBundle
		}
		v.past = everything()
		switch v.server {
		case "samba":
			if at := slices.IndexFunc(e.samba.shares, func(s share) bool { return s.name == v.name }); at >= 0 {
				v.past = pastShare(e.samba.shares[at], w, v.kept)
			}
		case "netatalk":
			if v.kept == keptYes && w.ofd == keptYes {
				v.past = []string{pastRename}
			}
		}
		if v.shut {
			v.past = slices.DeleteFunc(v.past, func(word string) bool { return word != pastDelete && word != pastRename })
			continue
		}
		if bundle && len(v.past) > 0 {
			v.past = append(v.past, pastBands)
			if v.kept == keptYes || v.kept == keptPartly {
				v.why = join(v.why, whyBands)
			}
		}
	}
}

// pastShare is for a share that a lock worth w keeps out so far.
func pastShare(s share, w worth, k kept) []string {
	switch {
	case !s.available:
		return nil
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
	elsewhere := slices.ContainsFunc(s.objects, func(object string) bool { return slices.Contains(pastKernel(), moduleName(object)) })
	return s.locking && s.posix && !s.forced() && s.strict == "no" && !elsewhere
}
