package main

import "slices"

// The measured matrix of FACTS.md, and what vfs_fruit.c and locking.c of Samba 4.17 to 4.22 say where it is silent. Pure.

// pastKernel are modules that keep a share's files elsewhere than in this machine's kernel, whose locks they do not see.
func pastKernel() []string {
	return []string{"glusterfs", "ceph", "ceph_new"}
}

// judgeShare says what a lock that is worth w does to a share's clients.
func judgeShare(path string, s share, w worth) verdictOn {
	v := judgeLocks(path, s, w)
	if w.guard == guardsNever {
		v.why = sayUnguardable(v.why)
	}
	if v.kept == keptYes || !s.seen() { // by locks alone, or by neither
		return v
	}
	return w.guarded(v, s.forced())
}

// seen reports whether the guard sees what a share's clients open.
func (s *share) seen() bool {
	return !slices.ContainsFunc(s.objects, func(object string) bool { return slices.Contains(pastKernel(), moduleName(object)) })
}

// guarded is a verdict on somebody whom the locks alone do not keep out. only: he serves nothing but bundles.
func (w worth) guarded(v verdictOn, only bool) verdictOn {
	switch {
	case w.guard == guardsBundle:
		v.kept, v.why = keptYes, whyGuard
	case w.guard == guardsWithin && only:
		v.kept, v.why = keptYes, whyGuardTM
	case w.guard == guardsWithin && v.kept != keptUnknown:
		v.kept, v.why = keptPartly, sayGuardedElse(v.why)
	}
	return v
}

// judgeLocks is judgeShare without the guard.
func judgeLocks(path string, s share, w worth) verdictOn {
	v := verdictOn{path: path, server: "samba", name: s.name, kept: w.ofd, why: w.why}
	if !s.available {
		v.kept, v.why = keptYes, whyUnavailable
		return v
	}
	for _, object := range s.objects {
		if slices.Contains(pastKernel(), moduleName(object)) {
			v.kept, v.why = keptNo, sayPastKernel(object)
			return v
		}
	}
	if s.fruit && s.fruitLocks != "netatalk" && s.fruitLocks != "none" {
		v.kept, v.why = keptUnknown, sayFruitLocks(s.fruitLocks)
		return v
	}
	if w.ofd == keptNo {
		v.why = w.without()
		return v
	}
	// What the lock would do if it were there.
	k, why := judgeSettings(s)
	if k == keptNo || w.ofd == keptYes {
		v.kept, v.why = k, why
	}
	return v
}

// judgeSettings says what a whole-file write lock of fcntl's does to a share.
func judgeSettings(s share) (kept, string) {
	switch {
	case s.fruit && s.fruitLocks == "netatalk": // opens ask for netatalk's byte locks, whatever the other settings
		return keptYes, ""
	case s.forced():
		return keptNo, because(whyOnlyGuard+helpFruit, whyForced)
	case !s.locking:
		return keptNo, because(whyOnlyGuard+s.help(), "locking = no")
	case !s.posix:
		return keptNo, because(whyOnlyGuard+s.help(), "posix locking = no")
	case s.strict == "no":
		return keptNo, because(whyOnlyGuard+s.help(), whyLax)
	case s.strict == "yes", !s.oplocks:
		return keptPartly, whyOpens + s.help()
	}
	// strict locking = auto: a client with an oplock or a lease is not asked for locks (strict_lock_check_default in locking.c).
	return keptPartly, whyAuto + s.help()
}

// help says which setting would keep the share out.
func (s *share) help() string {
	if s.fruit {
		return helpFruit
	}
	return helpNoFruit
}

func judgeNetatalk(path, volume string, w worth) verdictOn {
	v := verdictOn{path: path, server: "netatalk", name: volume, kept: w.ofd, why: w.why}
	if w.ofd == keptNo {
		v.why = w.without()
	}
	if w.ofd != keptYes {
		v = w.guarded(v, false)
	}
	return v
}
