package flock

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrMoved says that a bundle's path does not lead to the token that is open.
var ErrMoved = errors.New("the path leads to another file now")

// maxEntries bounds how many entries of a bundle's directory are looked at: one has about ten, and bands/ has the rest.
const maxEntries = 1024

// BundleDirs opens the directory of a bundle and those directly in it, bands first, at most max together; more says that there are
// others. The caller closes them. They can be read and nothing else, and are for who is to be told which directories they are.
// ErrMoved: the bundle's directory does not hold f any more.
//
// Privileged: as Open. What is in the directory is an attacker's; of it only directories on the same mount are opened.
func (o *Opener) BundleDirs(f *File, max int) (dirs []int, more bool, err error) {
	dir, inside := strings.CutSuffix(f.Target, "/"+tokenName)
	if !f.Bundle || !inside || o.MayHang(f) {
		return nil, false, pathError("open the directories of", f.Target, unix.EINVAL)
	}
	for range maxAttempts {
		dirs, more, err = o.bundleDirs(f, max)
		switch {
		case err == nil:
			return dirs, more, nil
		case err != unix.EAGAIN: // the path changed while it was walked
			return nil, false, pathError("open the directories of", dir, err)
		}
	}
	return nil, false, &OpenBusy{Path: dir}
}

// bundleDirs is one try.
//
// Privileged: as BundleDirs.
func (o *Opener) bundleDirs(f *File, max int) (dirs []int, more bool, err error) {
	defer func() {
		if err != nil {
			closeAll(dirs)
		}
	}()
	at, err := o.dirOf(f)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(at)
	root, err := openInode(at, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, false, err
	}
	dirs = append(dirs, root)
	names, more, err := entriesOf(root)
	if err != nil {
		return dirs, false, err
	}
	for _, name := range names {
		if len(dirs) == max {
			return dirs, true, nil
		}
		fd, err := openBelow(at, name)
		switch err {
		case nil:
			dirs = append(dirs, fd)
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EXDEV: // replaced meanwhile, or a mount
		default:
			return dirs, false, err
		}
	}
	return dirs, more, nil
}

// openBelow opens a directory that is directly in another.
//
// Privileged: as BundleDirs.
func openBelow(dir int, name string) (int, error) {
	fd, err := openat2(dir, name, beneath)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return openInode(fd, unix.O_RDONLY|unix.O_DIRECTORY)
}

// entriesOf gives the names in an open directory, bands first, which may not be there: it counts however many other names others have
// put before it. more says that not all of it was looked at.
func entriesOf(fd int) (names []string, more bool, err error) {
	buf := make([]byte, 32<<10)
	for more = true; len(names) < maxEntries; {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if n <= 0 {
			more = false
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == bandsName })
	slices.Sort(names)
	return slices.Insert(names, 0, bandsName), more, nil
}
