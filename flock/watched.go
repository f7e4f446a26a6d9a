package flock

import "golang.org/x/sys/unix"

// Alteration is what has become of one hold's files since the Watch.
type Alteration struct {
	Count  uint32 // how many were deleted, renamed or replaced; a rename counts once
	Last   string // the last of them, as seen from the bundle: "bands/1f", at most 262 bytes of any kind; "": the bundle or file itself
	Missed bool   // there may be more
}

// maxAlterations is how many of one hold are counted. Then its watches are taken away, so that a flood ends where it begins and does not
// push the events of others out of the queue (fs.inotify.max_queued_events, 16,384).
const maxAlterations = 4096

// maxBundleWatches is how many watches a bundle takes at most.
const maxBundleWatches = 1 + len(bundleDirs)

// bundleDirs are the directories that hdiutil(1) makes in a bundle.
var bundleDirs = [...]string{"bands", "mapped"}

// watched is one hold. Guarded by Changes.mu.
type watched struct {
	id     uint64
	fd     int // of a file that is watched itself, else -1
	wds    []int32
	cookie uint32 // of the rename that was counted last
	dirty  bool
	Alteration
}

// place says which part of a hold an inode is.
type place uint8

const (
	placeFile   place = iota + 1 // what is held
	placeBundle                  // the bundle's directory
	placeInside                  // a directory in it
)

// inode is one watch of the kernel's, and the holds that it is for. Guarded by Changes.mu.
type inode struct {
	wd    int32
	parts []part
	looks bool // the number of its names may have changed
}

// part is what an inode is of a hold.
type part struct {
	of     *watched
	place  place
	prefix string // of names in it, as seen from the bundle
}

// without takes the parts of w out; true if nothing is left.
func (k *inode) without(w *watched) bool {
	rest := k.parts[:0]
	for _, p := range k.parts {
		if p.of != w {
			rest = append(rest, p)
		}
	}
	clear(k.parts[len(rest):])
	k.parts = rest
	return len(rest) == 0
}

const (
	inDirectory = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ONLYDIR
	inItself    = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
)

// eventsOf are those that tell of an alteration. The inode of a file that is open outlives its name: IN_ATTRIB says that the number
// of its names has changed. New bands are what writers make, and not asked for.
func eventsOf(p place) uint32 {
	switch p {
	case placeFile:
		return inItself | unix.IN_ATTRIB
	case placeBundle:
		return inDirectory | inItself
	case placeInside:
		return inDirectory
	}
	return 0
}

// Watches is how many watches a Watch of f may take: what it is to be counted as.
func (o *Opener) Watches(f *File) int {
	switch {
	case o.MayHang(f): // where the kernel sees only what this machine does
		return 0
	case f.Bundle:
		return maxBundleWatches
	}
	return 1
}
