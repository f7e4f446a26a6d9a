package audit

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// segments lists the segments in the directory, oldest first.
func segments(dirfd int, path string) ([]string, error) {
	names, err := listDir(dirfd, path)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		_, ok := segFirst(name)
		return !ok
	})
	slices.Sort(names)
	return names, nil
}

// listDir lists the log's directory.
//
// Privileged: reads a directory that nobody but root can write.
func listDir(dirfd int, path string) ([]string, error) {
	fd, err := unix.Openat(dirfd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open audit directory", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return f.Readdirnames(-1)
}

// openSegment opens a file of the log for reading: a regular file, or nothing.
//
// Privileged: opens by a name found in the log's directory; should a hostile name ever get in there, it is
// neither followed nor waited for.
func openSegment(dirfd int, dir, name string) (*os.File, error) {
	path := filepath.Join(dir, name)
	// O_NONBLOCK: a FIFO in its place must not hang us. open(2).
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.Join(err, errors.New("not a regular file"))}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// lines reads a segment line by line.
type lines struct {
	r    *bufio.Reader
	n    int   // lines read
	next int64 // offset of the next line
	end  bool  // the end of the file was seen
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, maxLine+1)} }

// read returns the next line without its newline, valid until the next call. whole is false for what has no
// newline: the end of the file, or more than maxLine bytes; the rest of those comes next. io.EOF ends it, even if
// lockerd has meanwhile written the rest of an unfinished line.
func (s *lines) read() (line []byte, whole bool, err error) {
	if s.end {
		return nil, false, io.EOF
	}
	line, err = s.r.ReadSlice('\n')
	s.end = err == io.EOF
	if len(line) == 0 && err != nil {
		return nil, false, err
	}
	s.n++
	s.next += int64(len(line))
	switch {
	case err == nil:
		return line[:len(line)-1], true, nil
	case err == io.EOF || err == bufio.ErrBufferFull:
		return line, false, nil
	}
	return nil, false, err
}

// moment is a time by both clocks.
type moment struct {
	wall time.Time
	boot time.Duration
}

// scan is what replaying one segment gave.
type scan struct {
	name     string
	state    *State        // of its last whole checkpoint and what follows; not sealed: there is none
	first    uint64        // seq of its first record
	last     uint64        // seq of its last good record; 0: none
	hash     [hashLen]byte // of that record's line
	reserved uint64        // last number that it reserves
	at       moment        // when it was written
	stopped  bool          // with it the run ended cleanly
	good     int64         // bytes up to the end of that record
	size     int64         // bytes of the file
	damage   error         // what is wrong with the line after, nil if there is none
	badLine  int
	cut      bool   // nothing is wrong with that line but that its end is missing, and nothing follows
	intact   int    // good lines after the damage
	synced   uint64 // they say that records up to it had been on disk
	headed   bool   // the damage is behind the segment's head, which is on disk before the segment has its name
}

// replay reads a whole segment. An error is one of reading; damage is in the result.
func replay(dirfd int, dir, name string) (*scan, error) {
	f, err := openSegment(dirfd, dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &scan{name: name, state: NewState()}
	in := newLines(f)
	names := map[string]string{}
	begun := false // a checkpoint was seen; lines before it stand there after a write error
	for {
		line, whole, err := in.read()
		if err == io.EOF {
			s.size = in.next
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read audit segment: %w", err)
		}
		var r Record
		if s.damage != nil {
			s.cut = false
			if parseLine(line, &r, nil) == nil {
				s.intact++
				s.synced = max(s.synced, r.Synced)
			}
			continue
		}
		s.cut = !whole && unfinished(line)
		err = s.follow(line, whole, &r, names)
		if err == nil {
			begun = begun || r.Event == EventCheckpoint
			if begun {
				err = s.state.apply(&r, len(line)+1)
			}
		}
		if err != nil {
			s.damage, s.badLine = err, in.n
			continue
		}
		sum := sha256.Sum256(line)
		hex.Encode(s.hash[:], sum[:])
		s.last, s.good, s.stopped = r.Seq, in.next, stopped(s.stopped, &r)
		if s.first == 0 {
			s.first = r.Seq
		}
		if r.Event != EventHeld { // which has the time of its grant
			s.at = moment{r.Time, r.Boot}
		}
		switch r.Event {
		case EventCheckpoint:
			s.reserved, s.headed = r.Last, false
		case EventRotate:
			s.headed = begun
		}
	}
}

// stopped says whether the last run has ended with a stop record, after r. What the log itself writes when a
// segment has to be given up just then does not take that back; the head of a new run does.
func stopped(before bool, r *Record) bool {
	if own(r.Event) && r.Event != EventRecovered && r.Code != codeOpened && r.Code != codeFirst {
		return before
	}
	return r.Event == EventStop
}

// follow reads the line that comes after the last good one.
func (s *scan) follow(line []byte, whole bool, r *Record, names map[string]string) error {
	if !whole {
		return errors.New("unfinished line")
	}
	if err := parseLine(line, r, names); err != nil {
		return err
	}
	if s.last == 0 {
		if first, _ := segFirst(s.name); r.Seq != first {
			return fmt.Errorf("record %d is the first of a segment named %s", r.Seq, s.name)
		}
		return nil
	}
	if r.Prev != string(s.hash[:]) {
		return fmt.Errorf("record %d does not follow record %d: its prev is not the hash of the line before", r.Seq, s.last)
	}
	if r.Seq != s.last+1 && (r.Event != EventCheckpoint || r.Seq <= s.last) {
		return fmt.Errorf("record %d comes after record %d", r.Seq, s.last)
	}
	return nil
}
