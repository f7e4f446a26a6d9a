package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// removeSpares removes what earlier runs left: their space is wanted for the new segment. It gives the names of those that
// cannot be removed now.
//
// Privileged: unlinks names of this package's own in the log's directory, which nobody else can write.
func removeSpares(d *dir) (left []string, err error) {
	names, err := listDir(d.fd, d.path)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, sparePrefix) && d.Remove(name) != nil {
			left = append(left, name)
		}
	}
	return left, nil
}

// freeName finds the name under which a damaged segment, or its tail, is kept.
func freeName(d *dir, name string) (string, error) {
	for n := 1; n < 10000; n++ {
		to := fmt.Sprintf("%s%s%d", name, tornInfix, n)
		if _, _, err := d.Stat(to); errors.Is(err, fs.ErrNotExist) {
			return to, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("too many files %s%s…", name, tornInfix)
}

// setTailAside copies what follows the last good record to a file of its own, and cuts it off.
//
// Privileged: writes and truncates files in the log's directory, by names of this package's own.
func setTailAside(d *dir, s *scan) (name string, err error) {
	to, err := freeName(d, s.name)
	if err != nil {
		return "", err
	}
	in, err := openSegment(d.fd, d.path, s.name)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, _, err := d.Create(to, s.size-s.good, s.size-s.good)
	if err != nil {
		return "", err
	}
	err = copyTail(out, io.NewSectionReader(in, s.good, s.size-s.good))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", errors.Join(err, d.Remove(to))
	}
	return to, trim(d, s.name, s.good)
}

func copyTail(out File, in io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if _, werr := writeAll(out, buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// trim cuts a segment of an earlier run to size. That also gives back the space reserved beyond its end, which
// a process that was killed could not do.
//
// Privileged: truncates a segment, never through a symlink.
func trim(d *dir, name string, size int64) error {
	fd, err := unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(d.path, name), Err: err}
	}
	f := file{fd}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return &fs.PathError{Op: "truncate", Path: filepath.Join(d.path, name), Err: err}
	}
	return nil
}
