package flock

import (
	"errors"
	"strconv"
)

// What a caller branches on. They come inside a *PathError; only ErrBusy comes from TryLock as it is, since a busy lock is
// an ordinary answer. Other errors are errnos: errors.Is(err, fs.ErrPermission) and so on.
var (
	ErrBusy         = errors.New("in use by a program outside locker") // a kernel lock or a lease of somebody else
	ErrNotFound     = errors.New("no such file")
	ErrPath         = errors.New("not a clean absolute path")
	ErrOutside      = errors.New("outside the whitelist")
	ErrSymlink      = errors.New("a symbolic link is in the path")
	ErrMount        = errors.New("on a mount that is not entered")
	ErrKind         = errors.New("neither a regular file nor a directory")
	ErrNoToken      = errors.New("a sparsebundle without a token file")
	ErrHardlinks    = errors.New("has more than one hard link")
	ErrSharedBundle = errors.New("a shared lock on a sparsebundle would be granted while a Mac has it open")
	ErrEngines      = errors.New("cannot take any of the wanted kinds of lock")
	ErrMeaningless  = errors.New("a lock here excludes nobody")
	ErrHeld         = errors.New("this descriptor holds a lock already")
)

// OpenBusy is a file that could not be opened because somebody has it in use: a lease (fcntl(2), F_SETLEASE) or,
// with a zero ID, a path that was being renamed at every attempt. errors.Is(err, ErrBusy) holds. Nothing is open;
// to wait, call Open again (Waiter.Wait with a nil File).
type OpenBusy struct {
	Path string
	ID   ID
}

func (e *OpenBusy) Error() string {
	return "open " + strconv.QuoteToASCII(e.Path) + ": " + ErrBusy.Error()
}
func (e *OpenBusy) Is(target error) bool { return target == ErrBusy }

// PathError is an fs.PathError whose text is safe to show: a path's bytes are anybody's, escape sequences included.
type PathError struct {
	Op   string
	Path string // as asked for, or the Target that it led to
	Err  error
}

func (e *PathError) Error() string {
	return e.Op + " " + strconv.QuoteToASCII(e.Path) + ": " + e.Err.Error()
}
func (e *PathError) Unwrap() error { return e.Err }

func pathError(op, path string, err error) error {
	return &PathError{Op: op, Path: path, Err: err}
}
