package flock

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Opener opens paths below a whitelist. Its whitelist and the mounts it enters are those of its creation;
// it is safe for concurrent use.
type Opener struct {
	roots  map[string]*root // by path: the allow entries and the mount points below them
	mounts *mountTable
	tested *selfTests
	probes *probes
}

// root is a place where opening starts. A path is opened from its longest root.
type root struct {
	// first is opened in one go. Everything before its last component belongs to root (or to our own uid) and nobody
	// else can write there, so nobody else can rename, link or mount anything in the way.
	first     string
	firstWant mountID // the mount that first must be on; zero: any but a never one, since only root can have made it
	hops      []hop   // mounts known at creation, in places that others can change
	tail      string  // from the last hop to path; no mount is crossed there
	network   bool    // on a network file system when it was surveyed: opening and locking there may hang
}

// hop enters a mount: its parent directory is reached without crossing any, then the name alone crosses this one.
type hop struct {
	dir, name string
	want      mountID
}

// Follow has o know of the probes of the Opener that it replaces, of which files may still be open. Before o is used.
func (o *Opener) Follow(old *Opener) { o.probes = old.probes }

// NewOpener takes the whitelist: absolute clean paths of files or directories, which need not exist yet. The warnings
// are sentences for the log: entries that cannot work as they are, or that others can redirect, and mounts not entered.
//
// Privileged: whoever can write to a directory on the way to an entry chooses what is found there and below.
func NewOpener(allow []string) (*Opener, []string, error) {
	o := &Opener{roots: make(map[string]*root), mounts: newMountTable(), tested: newSelfTests(), probes: newProbes()}
	if _, err := procSelfFD(); err != nil {
		return nil, nil, err
	}
	if _, err := procSelfFdinfo(); err != nil {
		return nil, nil, err
	}
	lines, err := readMountinfo()
	if err != nil {
		return nil, nil, err
	}
	var warnings []string
	for _, path := range allow {
		if err := checkPath(path); err != nil {
			return nil, nil, pathError("allow", path, err)
		}
		if o.roots[path] != nil {
			continue
		}
		s, err := o.mounts.survey(path)
		if err != nil {
			return nil, nil, pathError("allow", path, err)
		}
		r := newRoot(path, path, s)
		o.roots[path] = r
		warnings = append(warnings, entryWarnings(path, s)...)
	}
	entries := slices.Sorted(maps.Keys(o.roots))
	for _, l := range lines {
		entry := longestPrefix(entries, l.point)
		if entry == "" || entry == l.point || o.roots[l.point] != nil || checkPath(l.point) != nil {
			continue // "…//deleted" is not clean
		}
		if blocker := blockingMount(lines, entry, l.point, o.mounts.euid); blocker != nil {
			if e, _, why := classify(blocker, o.mounts.euid); blocker.point == l.point && e == never {
				warnings = append(warnings, fmt.Sprintf("mount %q below %q is never entered: %s", l.point, entry, why))
			} else if blocker.point == l.point {
				warnings = append(warnings, fmt.Sprintf("mount %q (%s) below %q is not entered: name it in allow if it should be", l.point, l.fstype, entry))
			}
			continue
		}
		s, err := o.mounts.survey(l.point)
		if err != nil {
			return nil, nil, pathError("mount point", l.point, err)
		}
		if !s.entered(entry) {
			continue // hidden under another mount, or gone meanwhile: paths there are ErrMount or the parent's business
		}
		o.roots[l.point] = newRoot(l.point, entry, s)
	}
	return o, slices.Compact(warnings), nil
}

// longestPrefix finds the longest of the sorted entries that is path or a directory above it, "" if none is.
func longestPrefix(entries []string, path string) string {
	found := ""
	for _, e := range entries {
		if len(e) > len(found) && (path == e || strings.HasPrefix(path, e+"/")) {
			found = e
		}
	}
	return found
}

// blockingMount is the first mount below entry on the way to point, itself included, that is not freely entered.
func blockingMount(lines []mountLine, entry, point string, euid int) *mountLine {
	for i := range lines {
		m := lines[i].point
		if strings.HasPrefix(m, entry+"/") && (m == point || strings.HasPrefix(point, m+"/")) {
			if e, _, _ := classify(&lines[i], euid); e != free {
				return &lines[i]
			}
		}
	}
	return nil
}

// newRoot plans the way to path from what was found on it. entry is the allow entry that path is or lies below.
// What could not be surveyed is refused by the walk itself, each time, until it is put right.
func newRoot(path, entry string, s *survey) *root {
	r := new(root)
	closed := 0 // the last stop such that it and all before it are directories that only root can change
	for closed+1 < len(s.stops) && s.stops[closed+1].closed {
		closed++
	}
	names := strings.Split(path[1:], "/") // stops[i] is what names[:i] leads to
	first := min(closed+1, len(names))
	r.first = "/" + strings.Join(names[:first], "/")
	if len(r.first) > len(entry) && first < len(s.stops) {
		r.firstWant = s.stops[first].mount.id
	}
	from := first
	for i := first + 1; i < len(s.stops); i++ {
		if s.stops[i].mount.id == s.stops[i-1].mount.id {
			continue
		}
		r.hops = append(r.hops, hop{strings.Join(names[from:i-1], "/"), names[i-1], s.stops[i].mount.id})
		from = i
	}
	r.tail = strings.Join(names[from:], "/")
	if n := len(s.stops); n > 0 {
		r.network = s.stops[n-1].mount != nil && s.stops[n-1].mount.network
	}
	return r
}

// Network reports whether opening path may hang, since its root is on a network file system. It looks at nothing but
// the path's bytes.
func (o *Opener) Network(path string) bool {
	r, _ := o.rootOf(path)
	return r != nil && r.network
}

// MayHang reports whether looking anew at what f.Target leads to may hang. Of a file that was opened on a mount which is not among ours,
// as a broker's before us may have been, f.Network says that a call on it may; where its name leads is on a mount of ours.
func (o *Opener) MayHang(f *File) bool {
	if !f.Network {
		return false
	}
	r, _ := o.rootOf(f.Target)
	return r == nil || r.network || !f.mount.elsewhere
}

func entryWarnings(path string, s *survey) []string {
	var out []string
	warn := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("allow entry %q ", path)+fmt.Sprintf(format, args...))
	}
	switch {
	case errors.Is(s.refusal, ErrSymlink):
		warn("is or passes a symbolic link (at %q): nothing below it can be locked; name the real path", s.at)
	case s.refusal != nil:
		warn("cannot be used: %v (at %q)", s.refusal, s.at)
	case s.missing:
		warn("does not exist yet (%q)", s.at)
	}
	for i := range s.stops[:min(len(s.stops), strings.Count(path, "/"))] { // the parents, not the entry itself
		if stop := &s.stops[i]; !stop.closed {
			warn("can be moved or replaced by others, who can write to (or own) %q", stop.path)
			break
		}
	}
	return out
}
