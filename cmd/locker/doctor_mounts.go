package main

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of /proc/self/mountinfo. proc_pid_mountinfo(5).
type mount struct {
	id      uint64
	point   string // as seen from our root
	fstype  string
	source  string
	options []string // of the mount, then of the file system
}

// parseMounts reads mountinfo, and passes over what it does not understand.
func parseMounts(text string) []mount {
	var mounts []mount
	for line := range strings.Lines(text) {
		if m, ok := parseMount(strings.TrimSuffix(line, "\n")); ok {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMount(line string) (mount, bool) {
	fields := strings.Split(line, " ")
	sep := 6 // the optional fields between the options and "-" are zero or more
	for sep < len(fields) && fields[sep] != "-" {
		sep++
	}
	if len(fields) < sep+3 {
		return mount{}, false
	}
	id, err := strconv.ParseUint(fields[0], 10, 64)
	if err != nil {
		return mount{}, false
	}
	m := mount{id: id, point: octal(fields[4]), fstype: octal(fields[sep+1]), source: octal(fields[sep+2])}
	for _, list := range []string{fields[5], strings.Join(fields[min(sep+3, len(fields)):], " ")} {
		for option := range strings.SplitSeq(list, ",") {
			if option = octal(option); option != "" && !slices.Contains(m.options, option) {
				m.options = append(m.options, option)
			}
		}
	}
	return m, true
}

// octal undoes the kernel's mangling: \ and three octal digits stand for a space, tab, newline, backslash or #.
func octal(s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if b, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out = append(out, byte(b))
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// mountOf finds the mount that an absolute path is on, by name: the innermost, and of those at one place the last.
func mountOf(mounts []mount, path string) *mount {
	var best *mount
	for i := range mounts {
		m := &mounts[i]
		if below(path, m.point) && (best == nil || len(m.point) >= len(best.point)) {
			best = m
		}
	}
	return best
}

// below reports whether path is dir or in it. Both are absolute and clean.
func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// mountNumbered finds the mount of an open file or, where the kernel is too old to say (before 5.8), the one of its path.
func mountNumbered(mounts []mount, fd int, path string) *mount {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID != 0 {
		for i := range mounts {
			if mounts[i].id == st.Mnt_id {
				return &mounts[i]
			}
		}
	}
	return mountOf(mounts, path)
}

// has reports whether the mount has an option, as such or as name=value.
func (m *mount) has(option string) bool {
	for _, o := range m.options {
		if o == option || strings.HasPrefix(o, option+"=") {
			return true
		}
	}
	return false
}

// value gives the value of an option. The first is the kernel's own: a user may have written the later ones.
func (m *mount) value(option string) string {
	for _, o := range m.options {
		if v, ok := strings.CutPrefix(o, option+"="); ok {
			return v
		}
	}
	return ""
}

func (m *mount) readOnly() bool {
	return slices.Contains(m.options, "ro") // of the mount or of the file system
}

// fuse gives the kind of a FUSE mount: "" for another, "fuse" if it does not say.
func (m *mount) fuse() string {
	switch sub, ok := strings.CutPrefix(m.fstype, "fuse."); {
	case ok:
		return sub
	case m.fstype == "fuse", m.fstype == "fuseblk":
		return m.fstype
	}
	return ""
}

// foreign gives the user who made a FUSE mount, if that is neither root nor we: who so much as looks there can be kept
// waiting beyond SIGKILL.
func (m *mount) foreign(euid int) (uid string, yes bool) {
	uid = m.value("user_id")
	return uid, m.fuse() != "" && uid != "" && uid != "0" && uid != strconv.Itoa(euid)
}

func (m *mount) nfs() bool { return m.fstype == "nfs" || m.fstype == "nfs4" }

func (m *mount) cifs() bool { return m.fstype == "cifs" || m.fstype == "smb3" || m.fstype == "smbfs" }

// network reports whether lockerd takes the file system for one whose locks go elsewhere, and claims ofd alone there. It is
// the list of package flock's networkTypes.
func (m *mount) network() bool {
	switch m.fstype {
	case "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "ceph", "afs", "coda", "9p", "lustre", "gfs2", "ocfs2", "gpfs", "beegfs",
		"orangefs", "pvfs2", "vboxsf", "vmhgfs", "prl_fs", "virtiofs", "acfs", "panfs":
		return true
	}
	return m.fuse() != ""
}

// kernels reports whether it is one of the kernel's own, where lockerd never locks anything.
func (m *mount) kernels() bool {
	switch m.fstype {
	case "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "autofs", "debugfs", "tracefs", "securityfs", "configfs", "mqueue", "bpf":
		return true
	}
	return false
}

// judgeOthers says whether those are kept out who use the same files by another way than this mount. Without such a way
// there is no verdict.
func (m *mount) judgeOthers() (verdictOn, bool) {
	v := verdictOn{server: m.fstype}
	switch {
	case m.nfs():
		v.kept, v.why = judgeNFS(m)
	case m.cifs() && m.has("nobrl"):
		v.kept, v.why = keptNo, whyNobrl
	case m.fstype == "overlay":
		v.kept, v.why = keptNo, whyOverlay
	case m.fstype == "fuseblk": // a disk of its own
		return v, false
	case m.fuse() != "":
		v.kept, v.why = keptUnknown, whyFUSE
	case m.network():
		v.kept, v.why = keptUnknown, whyNetwork
	default:
		return v, false
	}
	return v, true
}

// judgeNFS reads what nfs(5) says of "local_lock" and "nolock". On NFS lockerd asks for fcntl's kind alone.
func judgeNFS(m *mount) (kept, string) {
	switch local := m.value("local_lock"); {
	case m.has("nolock"):
		return keptNo, sayLocalLock("nolock")
	case local == "all", local == "posix":
		return keptNo, sayLocalLock("local_lock=" + local)
	case local == "none", local == "flock":
		return keptYes, ""
	}
	return keptUnknown, whyNetwork
}

// typeName names the numbers of statfs(2) that a file server's disk may have.
func typeName(magic int64) string {
	switch uint32(magic) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext2/ext3/ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case unix.FUSE_SUPER_MAGIC:
		return "fuse"
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		return "smb"
	case unix.CEPH_SUPER_MAGIC:
		return "ceph"
	case unix.V9FS_MAGIC:
		return "9p"
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs"
	case unix.MSDOS_SUPER_MAGIC:
		return "vfat"
	case unix.EXFAT_SUPER_MAGIC:
		return "exfat"
	case 0x2fc12fc1:
		return "zfs"
	case 0xca451a4e:
		return "bcachefs"
	case 0x7366746e, 0x5346544e:
		return "ntfs"
	}
	return ""
}
