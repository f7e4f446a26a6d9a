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

// Adopt makes a File of a copy of a descriptor that an earlier run of ours opened, judged and locked: path and target are
// what that run knew. Which locks it has is the kernel's to say (its fdinfo), and m their mode; nothing is locked, unlocked or
// converted here: a claim on a description that holds its lock could only lose it. ErrNotHeld when it holds none. On success
// the File owns fd, otherwise the caller does.
//
// Privileged: fd leads to an attacker's file; whatever became of its name, it is not looked at.
func (o *Opener) Adopt(fd int, path, target string, m Mode) (*File, error) {
	held, err := heldBy(fd, m)
	if err != nil {
		return nil, pathError("take back", path, err)
	}
	var st unix.Statx_t
	on, err := o.mounts.of(fd, &st)
	if errors.Is(err, ErrMount) {
		on, err = mountElsewhere(&st)
	}
	if err != nil {
		return nil, pathError("take back", path, err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, pathError("take back", path, err)
	}
	id := ID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
	return &File{
		ID: id, Path: path, Target: target, Engines: held, Bundle: IsToken(target) || target != path, Network: on.network,
		fd: fd, held: held, readOnly: flags&unix.O_ACCMODE == unix.O_RDONLY, mount: on, tested: o.tested, probes: o.probes,
	}, nil
}

// mountElsewhere is for a file on a mount that is not among ours: a service manager gives each broker a mount namespace of its
// own, and the one that opened the file had another. The same file system is known by its device; one that is not found (btrfs
// shows other numbers) may be one that hangs.
func mountElsewhere(st *unix.Statx_t) (*mount, error) {
	lines, err := readMountinfo()
	if err != nil {
		return nil, err
	}
	m := &mount{network: true, elsewhere: true}
	for i := range lines {
		if lines[i].dev == unix.Mkdev(st.Dev_major, st.Dev_minor) {
			m.fstype = lines[i].fstype
			_, m.network, _ = classify(&lines[i], os.Geteuid())
			break
		}
	}
	return m, nil
}

// heldBy asks the kernel which engines hold a lock of mode m through fd's description: the "lock:" lines of its fdinfo are there
// exactly as long as it is locked. proc_pid_fdinfo(5)
//
// Privileged: reads what proc says of a descriptor of ours.
func heldBy(fd int, m Mode) (Engines, error) {
	dir, err := procSelfFdinfo()
	if err != nil {
		return 0, err
	}
	info, err := unix.Openat(dir, strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
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
		return 0, err
	}
	var held Engines
	for _, l := range parseFdinfo(buf[:n]) {
		switch {
		case l.mode != m:
		case l.kind == "OFDLCK":
			held |= OFD
		case l.kind == "FLOCK":
			held |= BSD
		}
	}
	if held == 0 {
		return 0, ErrNotHeld
	}
	return held, nil
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
