package flock

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// entry says whether a path may lead into a mount.
type entry uint8

const (
	never   entry = iota // a user's FUSE mount, a kernel file system: nothing there is a file to lock, or looking hangs
	ifNamed              // network, FUSE of root: when an allow entry is the mount point or lies below it
	free                 // local file systems
)

// networkTypes are file systems whose lock calls go to another machine or a cluster, and so may hang beyond SIGKILL.
// On GFS2 and OCFS2 the two engines do not collide as they do on NFS, but they wait for the cluster's lock manager
// all the same, and its byte-range locks are what other nodes' file servers use: they are treated like NFS.
var networkTypes = map[string]bool{
	"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "smbfs": true, "ncpfs": true, "ceph": true, "afs": true,
	"coda": true, "9p": true, "lustre": true, "gfs2": true, "ocfs2": true, "gpfs": true, "beegfs": true, "orangefs": true,
	"pvfs2": true, "vboxsf": true, "vmhgfs": true, "prl_fs": true, "virtiofs": true, "acfs": true, "panfs": true,
}

// kernelTypes hold no user's files: opening one can have effects (proc, sysfs), or waits for a daemon (autofs: whoever
// wants what it mounts looks there first). A chroot below an allow entry brings them in.
var kernelTypes = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "cgroup": true, "cgroup2": true, "autofs": true,
	"debugfs": true, "tracefs": true, "securityfs": true, "configfs": true, "mqueue": true, "bpf": true, "pstore": true,
	"efivarfs": true, "fusectl": true, "binfmt_misc": true, "selinuxfs": true, "nsfs": true, "rpc_pipefs": true, "nfsd": true,
}

// mountID names a mount for ever from Linux 6.8 on (STATX_MNT_ID_UNIQUE). Before, a number is used again after an
// unmount, and only together with the device is it as good as unique.
type mountID struct{ n, dev uint64 }

// mount is one that was met. Immutable.
type mount struct {
	id      mountID
	fstype  string
	enter   entry
	network bool
	why     string // it is never entered
	// elsewhere: it is none of ours, and what the kernel calls its files is not a path of ours.
	elsewhere bool
}

// mountTable remembers the mounts met, so that mountinfo is read once for each and not once for each open.
type mountTable struct {
	euid int

	// mu guards the maps; it is not held while mountinfo is read.
	mu        sync.Mutex
	known     map[mountID]*mount
	elsewhere map[mountID]*mount // of copies, which other mount namespaces may have opened: with the device in any case
}

const maxKnownMounts = 1024 // beyond it they are learned anew: a user may mount and unmount FUSE all day

func newMountTable() *mountTable {
	return &mountTable{euid: os.Geteuid(), known: make(map[mountID]*mount), elsewhere: make(map[mountID]*mount)}
}

// of says which mount fd is on, and fills in st, without asking the file system: the daemon of a FUSE mount may never answer.
//
// Privileged: fd is O_PATH, on a mount that an attacker may have made.
func (t *mountTable) of(fd int, st *unix.Statx_t) (*mount, error) {
	id, err := identify(fd, st)
	if err != nil {
		return nil, err
	}
	return t.find(fd, id)
}

// find gives the mount with this number, which fd is on.
//
// Privileged: as of.
func (t *mountTable) find(fd int, id mountID) (*mount, error) {
	if m := t.recall(t.known, id); m != nil {
		return m, nil
	}
	m, err := t.learn(fd, id)
	if err != nil {
		return nil, err
	}
	t.remember(t.known, id, m)
	return m, nil
}

func (t *mountTable) recall(among map[mountID]*mount, id mountID) *mount {
	t.mu.Lock()
	defer t.mu.Unlock()
	return among[id]
}

func (t *mountTable) remember(among map[mountID]*mount, id mountID, m *mount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(among) >= maxKnownMounts {
		clear(among)
	}
	among[id] = m
}

// identify gives the number of the mount that fd is on.
//
// Privileged: as of.
func identify(fd int, st *unix.Statx_t) (mountID, error) {
	// AT_STATX_DONT_SYNC: what is cached will do. statx(2).
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	if err := unix.Statx(fd, "", flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID_UNIQUE, st); err != nil {
		return mountID{}, err
	}
	if st.Mask&unix.STATX_MNT_ID_UNIQUE != 0 {
		return mountID{n: st.Mnt_id}, nil // without the device: on btrfs one mount has several
	}
	var old unix.Statx_t
	if err := unix.Statx(fd, "", flags, unix.STATX_MNT_ID, &old); err != nil {
		return mountID{}, err
	}
	if old.Mask&unix.STATX_MNT_ID == 0 {
		return mountID{}, fmt.Errorf("statx does not tell mounts: Linux 5.8 or newer is needed")
	}
	return mountID{old.Mnt_id, unix.Mkdev(st.Dev_major, st.Dev_minor)}, nil
}

// learn finds in mountinfo the mount that fd is on. fd keeps the mount, and so its number, from going away meanwhile.
//
// Privileged: as of.
func (t *mountTable) learn(fd int, id mountID) (*mount, error) {
	var st unix.Statx_t
	// mountinfo shows the number that is used again, not the unique one.
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return nil, err
	}
	lines, err := readMountinfo()
	if err != nil {
		return nil, err
	}
	for i := range lines {
		if lines[i].id == st.Mnt_id {
			m := &mount{id: id, fstype: lines[i].fstype}
			m.enter, m.network, m.why = classify(&lines[i], t.euid)
			return m, nil
		}
	}
	return nil, fmt.Errorf("%w: detached, or of another mount namespace", ErrMount)
}

// Privileged: no path of anybody's is in it; users who may mount choose names of mount points and sources.
func readMountinfo() ([]mountLine, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountinfo(text)
}

// classify decides by type and owner. A FUSE mount that another user made answers when that user likes, and an open
// there hangs root beyond SIGKILL: no allow entry makes it safe, since the user may have mounted it over the entry itself.
func classify(l *mountLine, euid int) (e entry, network bool, why string) {
	switch {
	case l.fstype == "fuse", l.fstype == "fuseblk", strings.HasPrefix(l.fstype, "fuse."):
		if l.fuseUID > 0 && l.fuseUID != int64(euid) {
			return never, true, fmt.Sprintf("a FUSE mount of uid %d", l.fuseUID)
		}
		return ifNamed, true, ""
	case networkTypes[l.fstype]:
		return ifNamed, true, ""
	case kernelTypes[l.fstype]:
		return never, false, "a " + l.fstype + " file system"
	}
	return free, false, ""
}
