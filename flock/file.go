package flock

// Mode of a lock. The zero value locks nothing: TryLock refuses it.
type Mode uint8

const (
	Exclusive Mode = iota + 1
	Shared
)

func (m Mode) String() string {
	switch m {
	case Exclusive:
		return "exclusive"
	case Shared:
		return "shared"
	}
	return "no mode"
}

// Engines is a set of kernel lock kinds.
type Engines uint8

const (
	OFD Engines = 1 << iota // fcntl(2) F_OFD_SETLK over the whole file: what netatalk, Samba and fcntl users see
	BSD                     // flock(2): what flock(1) users see
)

func (e Engines) String() string {
	switch e {
	case 0:
		return "none"
	case OFD:
		return "ofd"
	case BSD:
		return "flock"
	case OFD | BSD:
		return "ofd flock"
	}
	return "unknown"
}

// ID names a file for as long as somebody has it open.
type ID struct{ Dev, Ino uint64 } // st_dev, st_ino

// Want says what a lock is to be.
type Want struct {
	Mode      Mode
	Hardlinks bool    // regular files with more than one link are fine
	Engines   Engines // 0 means both
	Idle      bool    // exclusive only: nobody else may have the file open. A bundle implies it, where it can be found out
	InUse     bool    // others may have it open, even if it is a bundle; goes before Idle
}

// File is an open file that can be locked: one open file description, not safe for concurrent use.
// It is not finalized: who opens it closes it.
type File struct {
	ID      ID
	Path    string  // as asked for
	Target  string  // what is open: a bundle's token, otherwise Path
	Engines Engines // what TryLock will claim; the fallbacks are in doc.go
	Bundle  bool
	Network bool // lock calls may hang beyond SIGKILL: never on the request path
	Idle    bool // when TryLock succeeded nobody else had it open; of an adopted one its owner knows

	fd       int
	flags    int // to open it with
	parked   bool
	wish     idleWish
	held     Engines // claimed and not yet released
	readOnly bool
	mount    *mount
	tested   *selfTests
	probes   *probes
}

// FD is the descriptor, for a keeper that holds a copy. The caller must not close, lock or unlock it.
func (f *File) FD() int { return f.fd }
