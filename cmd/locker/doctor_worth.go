package main

import (
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What lockerd would lock at a path, and what that is worth.

// what finds out what lockerd would lock: see "Sparsebundles" in the design, and package flock.
func (p *pathReport) what(st unix.Stat_t) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		p.kind = kindFile
		p.possible(st, strings.HasSuffix(p.real, ".sparsebundle/token"))
		return
	case unix.S_IFDIR:
		p.kind = kindDirectory
	default:
		p.kind, p.only = kindOther, whyKind
		return
	}
	named := strings.HasSuffix(p.real, ".sparsebundle")
	if !named && !(has(p.real, "Info.plist", unix.S_IFREG) && has(p.real, "bands", unix.S_IFDIR) && has(p.real, "token", unix.S_IFREG)) {
		return
	}
	p.kind, p.target = kindBundle, p.real+"/token"
	var token unix.Stat_t
	switch err := unix.Lstat(p.target, &token); {
	case err != nil:
		p.only = sayNoToken(err)
	case token.Mode&unix.S_IFMT != unix.S_IFREG:
		p.only = whyTokenKind
	default:
		p.possible(token, true)
	}
}

func has(dir, name string, mode uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(dir+"/"+name, &st) == nil && st.Mode&unix.S_IFMT == mode
}

// possible says which engines lockerd, which is root, would claim on a regular file: an fcntl write lock needs a writable
// descriptor, and an executable file that is open for writing cannot be executed (ETXTBSY).
func (p *pathReport) possible(st unix.Stat_t, token bool) {
	var more unix.Statx_t
	fixed := unix.Statx(unix.AT_FDCWD, p.target, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &more) == nil &&
		more.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
	switch {
	case p.mount.readOnly():
		p.engines, p.only = []string{"flock"}, whyReadOnly
	case fixed:
		p.engines, p.only = []string{"flock"}, whyFixed
	case p.mount.network():
		p.engines, p.only = []string{"ofd"}, whyOFDOnly
	case st.Mode&0o111 != 0 && !token:
		p.engines, p.only = []string{"flock"}, whyExecutable
	default:
		p.engines = []string{"ofd", "flock"}
	}
	if st.Nlink > 1 {
		p.only = join(p.only, whyLinks)
	}
}

// weigh is for a directory: the lock on it is flock's; what is said of file servers is about the files in it.
func (p *pathReport) weigh() {
	switch {
	case p.mount.kernels():
		p.kind, p.engines, p.only = kindOther, nil, sayKernels(p.mount.fstype)
	case p.kind == kindDirectory:
		p.engines, p.only = []string{"flock"}, whyDirectory
	}
}

// testPlace says where the scratch file goes: into the directory that the file is in. Of a bundle that is the one around it,
// so that nothing is ever made in a Mac's disk, unless the bundle is a file system of its own.
func (p *pathReport) testPlace(st unix.Stat_t) (string, unix.Stat_t) {
	if p.kind == kindDirectory {
		return p.real, st
	}
	parent := filepath.Dir(p.real)
	var up unix.Stat_t
	if unix.Lstat(parent, &up) != nil || p.kind == kindBundle && up.Dev != st.Dev {
		return p.real, st
	}
	return parent, up
}

// worth is what a hold is worth on a path: the ofd lock, the only one that file servers see, and the guard, if it is on for the one who
// is asked about.
type worth struct {
	ofd   kept
	why   string
	guard guards
}

// guards is what the guard does for a path. The zero value is nothing.
type guards uint8

const (
	guardsWithin guards = iota + 1 // it guards bundles, of which there may be some
	guardsBundle                   // it guards this one
	guardsNever                    // it is no bundle's: no guard would
)

// by gives the worth with a guard, if it is on for somebody and fits. The kernel would have the guard wait for whoever serves such a
// file system, so it leaves those alone.
func (w worth) by(on bool, p *pathReport) worth {
	switch {
	case p != nil && p.plain():
		w.guard = guardsNever
	case !on:
	case p == nil:
		w.guard = guardsWithin
	case p.silent, p.foreign != "", len(p.engines) == 0, p.mount == nil, p.mount.network(), p.mount.fuse() != "":
	case p.kind == kindBundle:
		w.guard = guardsBundle
	case p.kind == kindDirectory:
		w.guard = guardsWithin
	}
	return w
}

// plain reports whether it is a file that is none of a bundle's.
func (p *pathReport) plain() bool {
	return p.kind == kindFile && !strings.HasSuffix(p.real, ".sparsebundle/token")
}

// without says that there is no lock which the server sees.
func (w worth) without() string {
	if w.guard == guardsNever {
		return w.why
	}
	return because(whyOnlyGuard, w.why)
}

// usual is the worth of a lock on an ordinary file of a local file system.
func usual() worth { return worth{ofd: keptYes} }

func (p *pathReport) worth() worth {
	ofd := p.kind == kindDirectory && !p.mount.readOnly() || slices.Contains(p.engines, "ofd")
	switch {
	case p.silent:
		return worth{ofd: keptUnknown, why: whySilent}
	case p.foreign != "":
		return worth{ofd: keptUnknown, why: p.only}
	case p.kind == kindDirectory && p.mount.readOnly():
		return worth{ofd: keptNo, why: whyReadOnly}
	case !ofd:
		return worth{ofd: keptNo, why: p.only}
	case p.test.done && p.test.ofd.outcome == outcomeTwice:
		return worth{ofd: keptNo, why: whyTwice}
	case p.test.done && p.test.ofd.outcome == outcomeFails:
		return worth{ofd: keptNo, why: sayFails(p.test.ofd.err)}
	case p.test.done && p.test.netatalk.outcome != outcomeExcludes:
		return worth{ofd: keptNo, why: whyNotClassic}
	case !p.test.done && p.mount.network():
		return worth{ofd: keptUnknown, why: whyUntested}
	}
	return worth{ofd: keptYes}
}

// judgeOthers is the mount's, with the path.
func (p *pathReport) judgeOthers() (verdictOn, bool) {
	if p.mount == nil {
		return verdictOn{}, false
	}
	v, ok := p.mount.judgeOthers()
	v.path = p.path
	return v, ok
}

// problems are those that no verdict tells.
func (p *pathReport) problems() []string {
	var all []string
	add := func(text string) { all = append(all, shown(p.path)+": "+text) }
	switch {
	case p.silent:
		add(whySilent)
	case p.foreign != "":
		add(p.only)
	case len(p.engines) == 0:
		add(p.only)
	}
	if t := p.test; t.done {
		if t.ofd.outcome != outcomeExcludes {
			add(sayProbeBad("ofd", t.ofd))
		}
		if t.flock.outcome != outcomeExcludes && !p.mountNetwork() {
			add(sayProbeBad("flock", t.flock))
		}
	}
	if p.test.left != "" {
		add(sayLeft(p.test.left))
	}
	return all
}

func (p *pathReport) mountNetwork() bool { return p.mount != nil && p.mount.network() }
