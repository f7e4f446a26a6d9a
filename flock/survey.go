package flock

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// survey is what stands on the way to a path, seen once, when the whitelist is taken.
type survey struct {
	stops   []stop // "/", then each component, as far as they exist and may be entered
	missing bool   // the component at is not there (yet)
	refusal error  // why nothing there can be opened as it is now
	at      string // the component that missing or refusal is about
}

type stop struct {
	path   string
	mount  *mount
	closed bool // a directory that only root, or our own uid, can write to
}

// survey walks one component at a time, so that it learns whose mount it has come to before it looks anything up there.
// The error is a failure of ours (no descriptors, no proc), not a property of the path.
//
// Privileged: path is root's word, what stands there may be anybody's.
func (t *mountTable) survey(path string) (*survey, error) {
	s := new(survey)
	dir, err := openat2(unix.AT_FDCWD, "/", 0)
	if err != nil {
		return nil, err
	}
	defer func() { unix.Close(dir) }()
	if err := t.look(s, dir, "/"); err != nil {
		return nil, err
	}
	for end := 1; end < len(path) && s.refusal == nil; {
		start := end
		if path[start] == '/' {
			start++
		}
		n := strings.IndexByte(path[start:], '/')
		if end = start + n; n < 0 {
			end = len(path)
		}
		fd, err := openat2(dir, path[start:end], unix.RESOLVE_BENEATH)
		if err = meaning(err); err != nil {
			s.at = path[:end]
			switch {
			case errors.Is(err, ErrNotFound):
				s.missing = true
			case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOSYS):
				return nil, err
			default:
				s.refusal = err
			}
			return s, nil
		}
		unix.Close(dir)
		dir = fd
		if err := t.look(s, dir, path[:end]); err != nil {
			s.refusal, s.at = err, path[:end]
		}
	}
	return s, nil
}

// look adds the stop that fd is.
//
// Privileged: fd is O_PATH, on anybody's mount.
func (t *mountTable) look(s *survey, fd int, path string) error {
	var st unix.Statx_t
	m, err := t.of(fd, &st)
	if err != nil {
		return err
	}
	if m.enter == never {
		return fmt.Errorf("%w: %s", ErrMount, m.why)
	}
	s.stops = append(s.stops, stop{
		path:  path,
		mount: m,
		closed: st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o022 == 0 && // ACL entries show in the group bits. acl(5)
			(st.Uid == 0 || st.Uid == uint32(t.euid)),
	})
	return nil
}

// entered says that the walk got to its end, that the end is a mount of its own, and that all mounts below the allow
// entry are free.
func (s *survey) entered(entry string) bool {
	last := len(s.stops) - 1
	if s.missing || s.refusal != nil || last < 1 || s.stops[last].mount.id == s.stops[last-1].mount.id {
		return false
	}
	for i := 1; i <= last; i++ {
		if len(s.stops[i].path) > len(entry) && s.stops[i].mount.id != s.stops[i-1].mount.id && s.stops[i].mount.enter != free {
			return false
		}
	}
	return true
}
