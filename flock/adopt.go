package flock

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNotHeld says that a descriptor holds no lock (any more).
var ErrNotHeld = errors.New("the descriptor holds no lock")

// Examined is what the kernel says of a copy of a descriptor that an earlier run of ours opened and locked; see Examine.
type Examined struct {
	opener            *Opener
	fd                int
	id                ID
	on                *mount
	readOnly          bool
	exclusive, shared Engines // that hold a lock of this mode
	err               error
}

// Examine asks the kernel all that Adopt has to know of a descriptor. Nothing is changed, locked or unlocked, so thousands may be
// examined side by side before one of them is adopted. It stays true until somebody lets go of a lock by this description.
//
// Privileged: fd leads to an attacker's file; whatever became of its name, it is not looked at.
func (o *Opener) Examine(fd int) Examined {
	x := Examined{opener: o, fd: fd}
	if x.err = x.askLocks(); x.err != nil || x.exclusive|x.shared == 0 {
		return x
	}
	var st unix.Statx_t
	x.on, x.err = o.mounts.ofCopy(fd, &st)
	x.id = ID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
	return x
}

// Adopt makes a File of a copy of a descriptor that an earlier run of ours opened, judged and locked: path and target are
// what that run knew. Which locks it has is the kernel's to say (its fdinfo), and m their mode; nothing is locked, unlocked or
// converted here: a claim on a description that holds its lock could only lose it. ErrNotHeld when it holds none. On success
// the File owns the descriptor, otherwise the caller does.
func (x Examined) Adopt(path, target string, m Mode) (*File, error) {
	held := Engines(0)
	switch m {
	case Exclusive:
		held = x.exclusive
	case Shared:
		held = x.shared
	}
	err := x.err
	if err == nil && held == 0 {
		err = ErrNotHeld
	}
	if err != nil {
		return nil, pathError("take back", path, err)
	}
	return &File{
		ID: x.id, Path: path, Target: target, Engines: held, Bundle: IsToken(target) || target != path, Network: x.on.network,
		fd: x.fd, held: held, readOnly: x.readOnly, mount: x.on, tested: x.opener.tested, probes: x.opener.probes,
	}, nil
}

// ofCopy is of for a file that may be on a mount that is not among ours: a service manager gives each broker a mount namespace of its
// own, and the one that opened the file had another. That is remembered, too: under a service manager it is so for all copies of a start.
//
// Privileged: as of.
func (t *mountTable) ofCopy(fd int, st *unix.Statx_t) (*mount, error) {
	id, err := identify(fd, st)
	if err != nil {
		return nil, err
	}
	at := mountID{id.n, unix.Mkdev(st.Dev_major, st.Dev_minor)}
	if m := t.recall(t.elsewhere, at); m != nil {
		return m, nil
	}
	m, err := t.find(fd, id)
	if !errors.Is(err, ErrMount) {
		return m, err
	}
	if m, err = mountElsewhere(at.dev); err == nil {
		t.remember(t.elsewhere, at, m)
	}
	return m, err
}

// mountElsewhere describes a mount that is none of ours. The same file system is known by its device; one that is not found (btrfs
// shows other numbers) may be one that hangs.
func mountElsewhere(dev uint64) (*mount, error) {
	lines, err := readMountinfo()
	if err != nil {
		return nil, err
	}
	m := &mount{network: true, elsewhere: true}
	for i := range lines {
		if lines[i].dev == dev {
			m.fstype = lines[i].fstype
			_, m.network, _ = classify(&lines[i], os.Geteuid())
			break
		}
	}
	return m, nil
}

// askLocks asks the kernel which engines hold a lock through fd's description, and how it was opened: the "lock:" lines of its fdinfo
// are there exactly as long as it is locked. proc_pid_fdinfo(5)
//
// Privileged: reads what proc says of a descriptor of ours.
func (x *Examined) askLocks() error {
	dir, err := procSelfFdinfo()
	if err != nil {
		return err
	}
	info, err := unix.Openat(dir, strconv.Itoa(x.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(info)
	var buf [4096]byte // its own locks only: two lines at most, behind four of a fixed form
	n, err := unix.Read(info, buf[:])
	for err == unix.EINTR {
		n, err = unix.Read(info, buf[:])
	}
	// The kernel makes all of it at the first read, and a start asks thousands of times: there is no second one. seq_read() in fs/seq_file.c
	if err == nil && n == len(buf) {
		err = unix.EMSGSIZE
	}
	if err != nil {
		return err
	}
	flags, ok := fdinfoNumber(buf[:n], "flags:\t", 8)
	if !ok {
		return errors.New("proc does not tell how a descriptor was opened")
	}
	x.readOnly = flags&unix.O_ACCMODE == unix.O_RDONLY
	for _, l := range parseFdinfo(buf[:n]) {
		held := &x.shared
		if l.mode == Exclusive {
			held = &x.exclusive
		}
		switch l.kind {
		case "OFDLCK":
			*held |= OFD
		case "FLOCK":
			*held |= BSD
		}
	}
	return nil
}

// procSelfFdinfo is /proc/self/fdinfo, opened once for the life of the process.
//
// Privileged: no path of anybody's is in it.
var procSelfFdinfo = sync.OnceValues(func() (int, error) {
	fd, err := unix.Open("/proc/self/fdinfo", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /proc/self/fdinfo: %w", err)
	}
	return fd, nil
})

// NameOf gives the name under which the kernel knows an open file now: for a hold whose path is not on record any more.
//
// Privileged: an attacker chooses names; this one is only shown, or tells whether closing may hang. proc_pid_fd(5)
func NameOf(fd int) string {
	dir, err := procSelfFD()
	if err != nil {
		return ""
	}
	name := make([]byte, maxPath+1)
	n, err := unix.Readlinkat(dir, strconv.Itoa(fd), name)
	if err != nil || n < 2 || n > maxPath || name[0] != '/' {
		return ""
	}
	return string(name[:n])
}
