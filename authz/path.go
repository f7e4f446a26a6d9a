package authz

import (
	"errors"
	"strings"
)

// MaxPath is the length of the longest path in bytes: PATH_MAX less the NUL.
const MaxPath = 4095

// What CheckPath finds. A path is refused, never repaired: the bytes that are
// decided on are the bytes that are opened.
var (
	ErrPathEmpty    = errors.New("path is empty")
	ErrPathRelative = errors.New("path is not absolute")
	ErrPathTooLong  = errors.New("path is longer than 4095 bytes")
	ErrPathNUL      = errors.New("path holds a NUL byte")
	ErrPathRoot     = errors.New(`path is "/"`)
	ErrPathSlash    = errors.New("path ends in a slash")
	ErrPathDouble   = errors.New(`path holds "//"`)
	ErrPathDot      = errors.New(`path holds a "." component`)
	ErrPathDotDot   = errors.New(`path holds a ".." component`)
)

// CheckPath returns nil for an absolute, clean path of at most MaxPath bytes
// other than "/", and one of the ErrPath errors otherwise. Any bytes but NUL are
// legal in names, UTF-8 or not. It never touches the file system.
func CheckPath(path string) error {
	switch {
	case path == "":
		return ErrPathEmpty
	case len(path) > MaxPath:
		return ErrPathTooLong
	case path[0] != '/':
		return ErrPathRelative
	case strings.IndexByte(path, 0) >= 0:
		return ErrPathNUL
	case path == "/":
		return ErrPathRoot
	}
	for rest := path[1:]; ; {
		name, after, more := strings.Cut(rest, "/")
		switch name {
		case "":
			if more {
				return ErrPathDouble
			}
			return ErrPathSlash
		case ".":
			return ErrPathDot
		case "..":
			return ErrPathDotDot
		}
		if !more {
			return nil
		}
		rest = after
	}
}

// within reports whether path is root or below it. Both are clean; "/srv/a"
// covers "/srv/a/b" and never "/srv/ab".
func within(path, root string) bool {
	return strings.HasPrefix(path, root) &&
		(len(path) == len(root) || path[len(root)] == '/' || root == "/")
}
