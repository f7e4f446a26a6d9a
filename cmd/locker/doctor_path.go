package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// pathReport is what doctor found out about a path.
type pathReport struct {
	path string // as asked for, absolute
	real string // without symbolic links; "" if the path could not be looked at

	silent  bool   // the file system does not answer
	foreign string // the user whose FUSE mount it is on: not looked at

	kind    kind
	target  string   // what lockerd would lock: the path itself, or a bundle's token
	engines []string // that would hold there
	only    string   // why not both, or why none
	mount   *mount
	magic   int64 // of statfs(2)
	test    selfTest
}

type kind uint8

const (
	kindFile kind = iota + 1
	kindDirectory
	kindBundle
	kindOther // nothing that can be locked
)

func (k kind) String() string {
	switch k {
	case kindFile:
		return "file"
	case kindDirectory:
		return "directory"
	case kindBundle:
		return "bundle"
	}
	return "other"
}

// errForeign says that a path leads into a FUSE mount of another user's.
type errForeign struct {
	m   *mount
	uid string
}

func (e *errForeign) Error() string { return "a FUSE mount of uid " + e.uid }

// lookAtPath looks at a path. It is an error if that cannot be done, and a fact if its file system does not answer.
func (d *doctor) lookAtPath(ctx context.Context, path string) (pathReport, error) {
	text, err := d.mountinfo()
	if err != nil {
		return pathReport{}, err
	}
	mounts := parseMounts(string(text))
	var p pathReport
	var failed error
	if !inTime(ctx, d.patience, func() { p, failed = d.look(mounts, path) }) {
		if ctx.Err() != nil {
			return pathReport{}, ctx.Err()
		}
		m := mountOf(mounts, path)
		return pathReport{path: path, silent: true, kind: kindOther, mount: m}, nil
	}
	return p, failed
}

// look is lookAtPath, and may wait for ever.
func (d *doctor) look(mounts []mount, path string) (pathReport, error) {
	p := pathReport{path: path}
	real, err := resolve(mounts, path, d.euid)
	var foreign *errForeign
	if errors.As(err, &foreign) {
		p.kind, p.mount, p.foreign, p.only = kindOther, foreign.m, foreign.uid, sayForeign(foreign.uid)
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.real, p.target = real, real
	// O_PATH: nothing is really opened, so that no lease is broken and no device acts. open(2)
	fd, err := unix.Open(real, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return p, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return p, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	p.mount = mountNumbered(mounts, fd, real)
	if p.mount == nil {
		p.mount = &mount{}
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil {
		p.magic = int64(fs.Type)
	}
	p.what(st)
	p.weigh()
	dir, want := p.testPlace(st)
	p.test = trySelf(dir, want, tmpfile)
	return p, nil
}

// resolve follows symbolic links, and stops before it would touch a FUSE mount of another user's.
func resolve(mounts []mount, path string, euid int) (string, error) {
	const most = 40 // links: path_resolution(7)
	real, rest, links := "/", strings.Split(path, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			real = filepath.Dir(real)
			continue
		}
		next := filepath.Join(real, name)
		if m := mountOf(mounts, next); m != nil {
			if uid, yes := m.foreign(euid); yes {
				return "", &errForeign{m, uid}
			}
		}
		info, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if info.Mode()&os.ModeSymlink == 0 {
			real = next
			continue
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if links++; links > most {
			return "", &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = slices.Concat(strings.Split(to, "/"), rest)
	}
	return real, nil
}
