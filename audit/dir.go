package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o750 // group adm lists
	fileMode = 0o640 // group adm reads
	lockMode = 0o600 // flock(2) asks for no write permission: a reader of this file could lock lockerd out
	lockName = "lock"
)

// dir is the log's directory. Everything below it is reached from the descriptor, never by path again.
type dir struct {
	path   string
	fd     int
	lock   int    // descriptor of the file that carries the flock
	newest string // segment that the last run began last, "": unknown
	gid    int    // -1: leave the group alone
}

// openDir opens the directory for writing, makes it when it is missing, and takes it for this process.
//
// Privileged: makes and chowns a directory; nothing in it comes from a client, path is the administrator's.
func openDir(path string, gid int) (*dir, error) {
	// The parents of a state directory are the administrator's; missing ones are made as mkdir -p would.
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := unix.Mkdir(path, dirMode); err != nil && err != unix.EEXIST {
		return nil, &fs.PathError{Op: "make audit directory", Path: path, Err: err}
	}
	fd, err := openDirFD(path)
	if err != nil {
		return nil, err
	}
	d := &dir{path: path, fd: fd, lock: -1, gid: gid}
	if err := d.own(); err != nil {
		d.close()
		return nil, err
	}
	if err := d.take(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// openDirFD opens the directory of the log.
//
// Privileged: the path is the administrator's.
func openDirFD(path string) (int, error) {
	// O_NOFOLLOW: a symlink in place of the directory would lead root's writes elsewhere. open(2).
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open audit directory", Path: path, Err: err}
	}
	return fd, nil
}

// own refuses a directory that belongs to somebody else and gives ours its mode and group: whoever may write
// in it could replace the log.
//
// Privileged: fchmod and fchown of the log's directory only.
func (d *dir) own() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return &fs.PathError{Op: "stat audit directory", Path: d.path, Err: err}
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("open audit log: directory %s belongs to uid %d, not to uid %d", d.path, st.Uid, os.Geteuid())
	}
	if d.gid >= 0 && int(st.Gid) != d.gid {
		if err := unix.Fchown(d.fd, -1, d.gid); err != nil {
			return &fs.PathError{Op: "chown audit directory", Path: d.path, Err: err}
		}
	}
	if st.Mode&0o7777 != dirMode {
		if err := unix.Fchmod(d.fd, dirMode); err != nil {
			return &fs.PathError{Op: "chmod audit directory", Path: d.path, Err: err}
		}
	}
	return nil
}

// take makes this process the only writer. The lock ends with the process, however that ends; the file stays,
// because removing a lock file lets two processes lock two files of one name.
//
// Privileged: one fixed name in the log's directory.
func (d *dir) take() error {
	path := filepath.Join(d.path, lockName)
	const flags = unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(d.fd, lockName, unix.O_RDWR|unix.O_CREAT|flags, lockMode)
	if err == unix.EROFS { // the locks of before are to be held again all the same
		if ro, roErr := unix.Openat(d.fd, lockName, unix.O_RDONLY|flags, 0); roErr == nil {
			fd, err = ro, nil
		}
	}
	if err != nil {
		return &fs.PathError{Op: "open audit log lock", Path: path, Err: err}
	}
	d.lock = fd
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
		who := "another lockerd"
		if pid, _ := noted(fd); pid != 0 {
			who = fmt.Sprintf("lockerd pid %d", pid)
		}
		return fmt.Errorf("open audit log: %s is in use by %s: %w", d.path, who, ErrInUse)
	} else if err != nil {
		return &fs.PathError{Op: "lock audit log", Path: path, Err: err}
	}
	if err := unix.Fchmod(fd, lockMode); err != nil && err != unix.EROFS {
		return &fs.PathError{Op: "chmod audit log lock", Path: path, Err: err}
	}
	_, d.newest = noted(fd)
	d.note(os.Getpid(), d.newest)
	return nil
}

func (d *dir) close() {
	if d.lock >= 0 {
		unix.Close(d.lock) // ends the flock
	}
	unix.Close(d.fd)
}

// Create implements FS.
//
// Privileged: a file in the log's directory, which nobody else can write; names are this package's own.
func (d *dir) Create(name string, least, most int64) (File, int64, error) {
	fail := func(op string, err error) (File, int64, error) {
		return nil, 0, &fs.PathError{Op: op, Path: filepath.Join(d.path, name), Err: err}
	}
	// O_EXCL|O_NOFOLLOW: nothing that is there already is ever written over. O_APPEND: after somebody has cut the
	// file short it stays shorter than it should be, where writing at an offset would fill the hole with zeros.
	// open(2).
	fd, err := unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, fileMode)
	if err != nil {
		return fail("create segment", err)
	}
	f := file{fd}
	undo := func(op string, err error) (File, int64, error) {
		f.Close()
		_ = d.Remove(name)
		return fail(op, err)
	}
	if d.gid >= 0 {
		if err := unix.Fchown(fd, -1, d.gid); err != nil {
			return undo("chown segment", err)
		}
	}
	if err := unix.Fchmod(fd, fileMode); err != nil { // whatever the umask
		return undo("chmod segment", err)
	}
	size, err := d.reserve(fd, least, most)
	if err != nil {
		return undo("reserve space for segment", err)
	}
	return f, size, nil
}

// reserve allocates blocks that later writes cannot lack. A small or nearly full file system gets a smaller
// segment: at most a quarter of what is free, so that the log alone does not fill it.
//
// Privileged: takes disk space; how much is the administrator's to say, and a client can make lockerd ask for the
// next segment only by filling this one.
func (d *dir) reserve(fd int, least, most int64) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.fd, &st); err != nil {
		return 0, err
	}
	free := int64(st.Bavail) * st.Bsize
	size := max(least, min(most, free/4))
	for {
		// FALLOC_FL_KEEP_SIZE: the file's size stays where its text ends, so readers never see zeros. fallocate(2).
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, size)
		switch {
		case err == nil:
			return size, nil
		case err == unix.EINTR:
		case err == unix.EOPNOTSUPP || err == unix.ENOSYS:
			// Nothing can be promised on this file system; what is free now is the next best thing.
			if free < 2*least {
				return 0, unix.ENOSPC
			}
			return size, nil
		case (err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EFBIG) && size > least:
			size = max(least, size/2)
		default:
			return 0, err
		}
	}
}

// Rename implements FS. RENAME_NOREPLACE: a segment is never replaced by another. rename(2).
//
// Privileged: names of this package's own in the log's directory.
func (d *dir) Rename(from, to string) error {
	err := unix.Renameat2(d.fd, from, d.fd, to, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS {
		// The file system cannot; nobody else makes names here, so looking first is enough.
		if _, _, err := d.Stat(to); !errors.Is(err, fs.ErrNotExist) {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
		}
		err = unix.Renameat(d.fd, from, d.fd, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Remove implements FS.
//
// Privileged: a name of this package's own in the log's directory.
func (d *dir) Remove(name string) error {
	if err := unix.Unlinkat(d.fd, name, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: filepath.Join(d.path, name), Err: err}
	}
	return nil
}

// Stat implements FS.
//
// Privileged: a name of this package's own in the log's directory; a symlink is not followed.
func (d *dir) Stat(name string) (ino uint64, size int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, 0, &fs.PathError{Op: "stat", Path: filepath.Join(d.path, name), Err: err}
	}
	return st.Ino, st.Size, nil
}

// Sync implements FS.
func (d *dir) Sync() error {
	if err := unix.Fsync(d.fd); err != nil {
		return &fs.PathError{Op: "fsync", Path: d.path, Err: err}
	}
	return nil
}

type file struct{ fd int }

func (f file) Write(p []byte) (n int, err error) {
	err = again(func() error { n, err = unix.Write(f.fd, p); return err })
	return max(n, 0), err
}

func (f file) Sync() error {
	return again(func() error { return unix.Fdatasync(f.fd) })
}

// Truncate implements File.
//
// Privileged: a segment that this process made, or found in the log's directory at its start.
func (f file) Truncate(size int64) error {
	return again(func() error { return unix.Ftruncate(f.fd, size) })
}

func (f file) Close() error { return unix.Close(f.fd) } // never again: the descriptor is gone, close(2)

// again repeats a call that a signal interrupted; Go's scheduler sends signals all the time.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
