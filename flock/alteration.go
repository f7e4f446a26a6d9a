package flock

import (
	"bytes"
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"
)

// reader reads the queue and tells, until Close.
func (c *Changes) reader() {
	defer close(c.read)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		var told []watched
		more := false
		err := c.raw.Read(func(uintptr) bool {
			told, more = c.batch()
			return more || len(told) > 0
		})
		for _, t := range told {
			c.tell(t.id, t.Alteration)
		}
		if err != nil {
			return
		}
		pause.Reset(readPause)
		select {
		case <-pause.C:
		case <-c.closed:
			return
		}
	}
}

// batch reads what fits the buffer; more says that something was there.
func (c *Changes) batch() (told []watched, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return nil, false
	}
	more = c.readOnce() > 0
	return c.take(), more
}

// take gives copies of what has changed since it was told last. The caller holds mu.
func (c *Changes) take() (told []watched) {
	for _, w := range c.dirty {
		w.dirty = false
		told = append(told, *w)
	}
	c.dirty = nil
	return told
}

// drain reads all that is in the queue now, and not what others put in meanwhile: they might be faster than we are. The caller holds mu.
func (c *Changes) drain() {
	left, err := unix.IoctlGetInt(c.fd, unix.TIOCINQ) // FIONREAD: bytes in the queue. inotify(7)
	for err == nil && left > 0 {
		n := c.readOnce()
		if n == 0 {
			return
		}
		left -= n
	}
}

// readOnce delivers what fits the buffer, and gives how many bytes that was. The caller holds mu.
func (c *Changes) readOnce() int {
	for {
		n, err := unix.Read(c.fd, c.buf) // never blocks: O_NONBLOCK
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return 0
		}
		c.deliver(c.buf[:n])
		return n
	}
}

// deliver counts what whole events in buf tell. The caller holds mu.
func (c *Changes) deliver(buf []byte) {
	var looks []*inode
	for len(buf) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		cookie := binary.NativeEndian.Uint32(buf[8:])
		size := min(unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(buf[12:])), len(buf))
		name := buf[unix.SizeofInotifyEvent:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		buf = buf[size:]
		if mask&unix.IN_Q_OVERFLOW != 0 { // whose events were lost is unknown
			for _, w := range c.holds {
				c.miss(w)
			}
			continue
		}
		k := c.inodes[wd]
		if k == nil {
			continue // of a watch that was taken away
		}
		if mask&unix.IN_ATTRIB != 0 && !k.looks {
			k.looks = true
			looks = append(looks, k)
		}
		for i := len(k.parts) - 1; i >= 0; i-- { // backwards: counting may take this one out
			c.judge(k.parts[i], mask, cookie, name)
		}
		if mask&unix.IN_IGNORED != 0 { // the inode is gone, and has been told of
			delete(c.inodes, wd)
		}
	}
	for _, k := range looks { // once each, however many events there were: a chmod in a loop makes them, too
		k.look(c)
	}
}

// judge counts an event of one part of a hold, if it is an alteration.
func (c *Changes) judge(p part, mask, cookie uint32, name []byte) {
	w := p.of
	switch {
	case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
		if p.place != placeInside { // of whose own name the directory above tells
			c.count(w, "")
		}
	case p.place == placeFile:
	case mask&unix.IN_MOVED_TO != 0 && cookie == w.cookie:
		// The second half of a rename that was counted. A file that was put in place of one of the bundle's own is told by that name.
		if own(p.prefix, name) {
			w.Last = p.prefix + string(name)
		}
	case mask&(unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO) != 0:
		if mask&unix.IN_DELETE == 0 {
			w.cookie = cookie
		}
		c.count(w, p.prefix+string(name))
	}
}

// own reports whether a name in a bundle's directory is one that it cannot be without.
func own(prefix string, name []byte) bool {
	if prefix != "" {
		return false
	}
	switch string(name) {
	case tokenName, "Info.plist", "Info.bckup", "bands", "mapped":
		return true
	}
	return false
}

// look finds out whether a file has lost its last name. The caller holds mu.
func (k *inode) look(c *Changes) {
	k.looks = false
	var st unix.Stat_t
	for _, p := range k.parts {
		if p.place != placeFile || p.of.fd < 0 {
			continue
		}
		if unix.Fstat(p.of.fd, &st) == nil && st.Nlink > 0 {
			return // the same for all of them
		}
		break
	}
	for i := len(k.parts) - 1; i >= 0; i-- {
		if p := k.parts[i]; p.place == placeFile {
			c.count(p.of, "")
			c.leave(p.of) // nothing more can become of it
		}
	}
}

// count counts one alteration. The caller holds mu.
func (c *Changes) count(w *watched, last string) {
	if w.Count++; w.Count >= maxAlterations {
		w.Missed = true
		c.leave(w)
	}
	w.Last = last
	c.changed(w)
}

// miss notes that there may have been one. The caller holds mu.
func (c *Changes) miss(w *watched) {
	if !w.Missed {
		w.Missed = true
		c.changed(w)
	}
}

func (c *Changes) changed(w *watched) {
	if !w.dirty {
		w.dirty = true
		c.dirty = append(c.dirty, w)
	}
}
