package audit

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Filter chooses records. Zero fields ask for nothing; all others must hold.
type Filter struct {
	User        string // name of the uid the record is about
	UID         uint32
	HasUID      bool // UID means something
	Path        string
	Below       bool      // Path and all below it, by whole components; else Path alone
	Events      []Event   // any of them
	Since       time.Time // inclusive
	Until       time.Time // exclusive
	First, Last uint64    // seq, both inclusive
}

// Match says whether r is asked for. A path is looked for in Path and Target.
func (f *Filter) Match(r *Record) bool {
	switch {
	case f.User != "" && r.User != f.User,
		f.HasUID && (!r.Peer || r.UID != f.UID),
		f.Path != "" && !f.covers(r.Path) && !f.covers(r.Target),
		len(f.Events) > 0 && !slices.Contains(f.Events, r.Event),
		!f.Since.IsZero() && r.Time.Before(f.Since),
		!f.Until.IsZero() && !r.Time.Before(f.Until),
		r.Seq < f.First,
		f.Last != 0 && r.Seq > f.Last:
		return false
	}
	return true
}

// covers compares whole components: /srv/a covers /srv/a/b, never /srv/ab.
func (f *Filter) covers(path string) bool {
	if path == f.Path {
		return path != ""
	}
	rest, ok := strings.CutPrefix(path, f.Path)
	return f.Below && ok && (rest[0] == '/' || strings.HasSuffix(f.Path, "/"))
}

// Read calls fn for each record in the directory that f asks for, oldest first. line, without newline, and r
// are valid until fn returns. An error of fn ends it and is returned.
//
// It needs no lockerd and works beside one: an unfinished last line is left out. Lines that are no records are
// left out, too, and are an error at the end, after all others have been seen; Verify says what is wrong.
func Read(dir string, f Filter, fn func(line []byte, r *Record) error) error {
	fd, err := openDirFD(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	names, err := segments(fd, dir)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	unreadable := 0
	for i, name := range names {
		end := uint64(1<<64 - 1) // first number of the next segment
		if i+1 < len(names) {
			end, _ = segFirst(names[i+1])
		}
		if first, _ := segFirst(name); end <= f.First || f.Last != 0 && first > f.Last {
			continue
		}
		bad, err := readSegment(fd, dir, name, end, i == len(names)-1, &f, fn)
		if err != nil {
			return err
		}
		unreadable += bad
	}
	if unreadable > 0 {
		return fmt.Errorf("read audit log: %d lines are no records: %w", unreadable, ErrBroken)
	}
	return nil
}

// readSegment is Read for one segment. Records from end on stand again in the next one.
func readSegment(dirfd int, dir, name string, end uint64, newest bool, f *Filter, fn func([]byte, *Record) error) (bad int, err error) {
	file, err := openSegment(dirfd, dir, name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	in := newLines(file)
	for {
		line, whole, err := in.read()
		if err == io.EOF {
			return bad, nil
		}
		if err != nil {
			return bad, fmt.Errorf("read audit segment: %w", err)
		}
		if !whole && newest && unfinished(line) {
			continue
		}
		r, err := ParseLine(line)
		if !whole || err != nil {
			bad++
			continue
		}
		if r.Seq < end && f.Match(&r) {
			if err := fn(line, &r); err != nil {
				return bad, err
			}
		}
	}
}

// unfinished says that these bytes, the last of a segment, can be the beginning of a line whose rest is still
// being written.
func unfinished(tail []byte) bool {
	const begin, prev = `{"seq":`, `,"prev":"`
	if n := min(len(tail), len(begin)); string(tail[:n]) != begin[:n] {
		return false
	}
	for _, c := range tail {
		if c < ' ' || c > '~' {
			return false
		}
	}
	// A quote inside a text is escaped, so prev stands in a line once; a whole line ends where its hash ends.
	i := bytes.Index(tail, []byte(prev))
	return i < 0 || len(tail) <= i+len(prev)+hashLen+len(`"}`)
}
