package flock

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// ask looks for s.lines among the locks of a process's descriptors, and takes those that it has; and whether it has the file open,
// if that counts. false: they are not to be seen.
//
// Privileged: the process is an attacker's; only proc's own text about its descriptors is read.
func (s *search) ask(pid int32) bool {
	base := "/proc/" + strconv.Itoa(int(pid))
	dir, err := os.Open(base + "/fdinfo")
	if err != nil {
		return errors.Is(err, os.ErrNotExist) // it has ended: it holds nothing
	}
	defer dir.Close()
	for seen := 0; seen < outsideDescriptors; {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if seen++; seen > outsideDescriptors || seen%descriptorsBetweenNow == 0 && s.late() {
				return true
			}
			s.looked++
			text := s.readProc(base + "/fdinfo/" + name)
			locks, writes, opens := parseFdinfo(text), false, false
			if s.opens {
				writes, opens = isOpen(text, s.id.Ino)
			}
			for _, l := range locks {
				if slices.Contains(s.lines, l) && (!s.doubt || s.leadsHere(base+"/fd/"+name)) {
					s.resolve(l)
					s.name(pid, l)
				}
			}
			if opens && s.leadsHere(base+"/fd/"+name) {
				s.nameUser(pid, writes)
			}
		}
		if err != nil {
			return err == io.EOF || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
		}
	}
	return true
}

// leadsHere asks the descriptor itself, where what its fdinfo says was not enough: a lock line that is on btrfs or overlayfs, or a
// number of an inode that files of every file system may have. AT_STATX_DONT_SYNC, so that a FUSE or network file of that number, or
// one that was put there since, is not asked about at its server, which may hang. statx(2).
//
// Privileged: the process can put another file at that number.
func (s *search) leadsHere(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st)
	return err == nil && st.Ino == s.id.Ino && unix.Mkdev(st.Dev_major, st.Dev_minor) == s.id.Dev
}

// name adds the process as the holder of l, unless it has ended.
//
// Privileged: the process chooses its command name, every byte of it.
func (s *search) name(pid int32, l lockLine) { s.add(pid, l.engine(), l.mode) }

// nameUser adds the process as one that has the file open.
//
// Privileged: as add.
func (s *search) nameUser(pid int32, writes bool) {
	m := Shared
	if writes {
		m = Exclusive
	}
	s.add(pid, OnlyOpen, m)
}

// Privileged: the process chooses its command name, every byte of it.
func (s *search) add(pid int32, engine string, m Mode) {
	base := "/proc/" + strconv.Itoa(int(pid))
	uid, ok := parseStatusUID(s.readProc(base + "/status"))
	if !ok {
		return
	}
	command := string(bytes.TrimSuffix(s.readProc(base+"/comm"), []byte("\n")))
	s.found(Holder{PID: pid, UID: uid, Command: command, Engine: engine, Mode: m})
}

// readProc returns the beginning of a file of proc, empty if there is none. It is valid until the next call.
//
// Privileged: path is made of numbers read from proc, never of a name that somebody chose.
func (s *search) readProc(path string) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	have := 0
	for have < len(s.buf) {
		n, err := unix.Read(fd, s.buf[have:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		have += n
	}
	return s.buf[:have]
}
