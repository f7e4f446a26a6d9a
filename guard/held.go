package guard

import (
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// held is which directories are guarded, and for which ids. A directory that several ids name is marked once and for as long
// as one of them is there. It belongs to one goroutine.
type held struct {
	ids    map[uint64][]place
	dirs   map[place]*directory
	byName map[string]*directory // where they were when they were first guarded: a guess only
}

// place is which directory it is, whatever its name.
type place struct{ dev, ino uint64 }

func placeOf(st *unix.Stat_t) place { return place{uint64(st.Dev), st.Ino} }

type directory struct {
	place
	fd   int
	name string
	ids  []uint64 // that name it, one as often as it does
}

func newHeld() *held {
	return &held{ids: map[uint64][]place{}, dirs: map[place]*directory{}, byName: map[string]*directory{}}
}

// add notes that id has the directory, whose descriptor fd is held's from here on. It gives the directory when it is new.
func (h *held) add(id uint64, p place, fd int) *directory {
	h.ids[id] = append(h.ids[id], p)
	if d := h.dirs[p]; d != nil {
		unix.Close(fd)
		d.ids = append(d.ids, id)
		return nil
	}
	d := &directory{place: p, fd: fd, ids: []uint64{id}}
	d.name, _ = nameOf(fd)
	h.dirs[p] = d
	h.byName[d.name] = d
	return d
}

// remove forgets an id, and gives the directories that no id has any more. Their descriptors are the caller's to close.
func (h *held) remove(id uint64) (free []*directory) {
	for _, p := range h.ids[id] {
		d := h.dirs[p]
		d.ids = slices.Delete(d.ids, slices.Index(d.ids, id), slices.Index(d.ids, id)+1)
		if len(d.ids) > 0 {
			continue
		}
		delete(h.dirs, p)
		if h.byName[d.name] == d {
			delete(h.byName, d.name)
		}
		free = append(free, d)
	}
	delete(h.ids, id)
	return free
}

// which gives an id that guards the file; 0 if that cannot be told any more. The file's path may be another for the opener than
// for who guards, or be changed meanwhile, so that it is only where the search begins.
func (h *held) which(s seen) uint64 {
	dir, name := path.Split(s.name)
	if d := h.byName[path.Clean(dir)]; d != nil && d.has(name, s) {
		return d.ids[0]
	}
	for _, d := range h.dirs {
		if d.has(name, s) {
			return d.ids[0]
		}
	}
	return 0
}

// has reports whether the directory has that file under that name.
//
// Privileged: looks at one name, which others chose, in a directory that the broker opened; it follows and mounts nothing, and asks
// nobody, since a user can have mounted a FUSE of his over the file, whose daemon need not answer. statx(2)
func (d *directory) has(name string, s seen) bool {
	var st unix.Statx_t
	err := unix.Statx(d.fd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	return err == nil && place{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino} == s.place
}
