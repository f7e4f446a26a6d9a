package flock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// plant makes a tree of what hostile users leave behind: "symlink a ../b" and so on, relative to base. $ is base.
func plant(t testing.TB, base string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		words := strings.Split(line, " ")
		name := filepath.Join(base, words[1])
		var err error
		switch words[0] {
		case "dir":
			err = os.MkdirAll(name, 0o755)
		case "file":
			err = os.WriteFile(name, []byte("content of "+words[1]), 0o644)
		case "symlink":
			err = os.Symlink(strings.Replace(words[2], "$", base, 1), name)
		case "hardlink":
			err = os.Link(name, filepath.Join(base, words[2]))
		case "fifo":
			err = unix.Mkfifo(name, 0o666)
		case "socket": // bind(2) with a short name, whatever base is
			var fd int
			if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
				short := filepath.Join("/tmp", "locker-test-"+strconv.Itoa(os.Getpid()))
				err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: short}), os.Rename(short, name), unix.Close(fd))
			}
		case "chardev", "blockdev":
			kind := map[string]uint32{"chardev": unix.S_IFCHR, "blockdev": unix.S_IFBLK}[words[0]]
			major, _ := strconv.Atoi(words[2])
			minor, _ := strconv.Atoi(words[3])
			err = unix.Mknod(name, kind|0o666, int(unix.Mkdev(uint32(major), uint32(minor))))
		case "mode":
			var mode uint64
			if mode, err = strconv.ParseUint(words[2], 8, 32); err == nil {
				err = unix.Chmod(name, uint32(mode))
			}
		default:
			err = fmt.Errorf("unknown kind")
		}
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
}

var (
	name255  = strings.Repeat("n", 255)
	name256  = strings.Repeat("n", 256)
	oddNames = []string{"new\nline", "esc\x1b[2J", "\xff\xfe", "tab\t", " ", "...", "..a", "a..", "\\040", "*", "{user}", "~", "-rf", name255}
)

// hostileTree has all its victims in outside/, and a policy that allows only allowed/.
func hostileTree(t testing.TB) (base string) {
	base = publicDir(t)
	plant(t, base,
		"dir outside/dir", "file outside/secret", "file outside/dir/file", "file outside/pulled", "file outside/pulled-token",
		"dir allowed/sub/deep", "file allowed/plain", "file allowed/sub/deep/file", "dir allowed/empty", "dir allowed-not",
		"file allowed-not/file", "file allowed/exec", "mode allowed/exec 755", "file allowed/setuid", "mode allowed/setuid 4755",
		"symlink allowed/out ../outside/secret", "symlink allowed/out-abs $/outside/secret", "symlink allowed/in plain",
		"symlink allowed/in-abs $/allowed/plain", "symlink allowed/outdir ../outside", "symlink allowed/outdir-abs $/outside",
		"symlink allowed/indir sub", "symlink allowed/sub/up ..", "symlink allowed/sub/deep/upup ../..", "symlink allowed/dot .",
		"symlink allowed/root /", "symlink allowed/loop loop", "symlink allowed/loop-a loop-b", "symlink allowed/loop-b loop-a",
		"symlink allowed/dangling nowhere", "symlink allowed/dangling-out ../nowhere", "symlink allowed/fd0 /proc/self/fd/0",
		"symlink allowed/cwd /proc/self/cwd", "symlink allowed/exe /proc/self/exe", "symlink allowed/procroot /proc/self/root",
		"symlink allowed/passwd /etc/passwd", "symlink allowed/null-link /dev/null", "symlink allowed/chain out",
		"fifo allowed/fifo", "socket allowed/socket", "fifo allowed/sub/fifo",
		"file allowed/two", "hardlink allowed/two allowed/two-again", "hardlink outside/pulled allowed/pulled",
		"dir allowed/good.sparsebundle/bands", "file allowed/good.sparsebundle/token", "file allowed/good.sparsebundle/Info.plist",
		"mode allowed/good.sparsebundle/token 755",
		"dir allowed/no-token.sparsebundle", "dir allowed/link.sparsebundle", "symlink allowed/link.sparsebundle/token ../../outside/secret",
		"dir allowed/fifo.sparsebundle", "fifo allowed/fifo.sparsebundle/token", "dir allowed/dir.sparsebundle/token",
		"dir allowed/pulled.sparsebundle", "hardlink outside/pulled-token allowed/pulled.sparsebundle/token",
		"symlink allowed/alias.sparsebundle good.sparsebundle", "file allowed/file.sparsebundle",
		"dir allowed/unnamed/bands", "file allowed/unnamed/Info.plist", "file allowed/unnamed/token",
		"dir allowed/fake/bands", "symlink allowed/fake/Info.plist ../plain", "file allowed/fake/token",
		"dir allowed/half", "file allowed/half/token",
		"dir allowed/fake-bands", "file allowed/fake-bands/bands", "file allowed/fake-bands/Info.plist", "file allowed/fake-bands/token",
	)
	for _, name := range oddNames {
		newFile(t, base+"/allowed/"+name)
	}
	if os.Geteuid() == 0 {
		plant(t, base, "chardev allowed/null 1 3", "chardev allowed/zero-major 0 0", "blockdev allowed/loop-dev 7 200", "chardev allowed/tty 5 0")
	}
	return base
}

type hostilePath struct {
	path string // relative paths are below base
	want error  // nil: opens
}

func hostilePaths() []hostilePath {
	long := strings.Repeat("/"+name255, 16)
	paths := []hostilePath{
		// what may be locked
		{"allowed/plain", nil}, {"allowed/sub/deep/file", nil}, {"allowed", nil}, {"allowed/empty", nil}, {"allowed/sub/deep", nil},
		{"allowed/exec", nil}, {"allowed/setuid", nil}, {"allowed/good.sparsebundle", nil}, {"allowed/good.sparsebundle/token", nil},
		{"allowed/good.sparsebundle/bands", nil}, {"allowed/file.sparsebundle", nil}, {"allowed/unnamed", nil}, {"allowed/fake", nil},
		{"allowed/half", nil}, {"allowed/fake-bands", nil},
		// symbolic links, at every position
		{"allowed/out", ErrSymlink}, {"allowed/out-abs", ErrSymlink}, {"allowed/in", ErrSymlink}, {"allowed/in-abs", ErrSymlink},
		{"allowed/outdir", ErrSymlink}, {"allowed/outdir/secret", ErrSymlink}, {"allowed/outdir-abs/secret", ErrSymlink},
		{"allowed/outdir/dir/file", ErrSymlink}, {"allowed/indir/deep/file", ErrSymlink}, {"allowed/sub/up/plain", ErrSymlink},
		{"allowed/sub/deep/upup/plain", ErrSymlink}, {"allowed/sub/deep/upup/sub/deep/upup/plain", ErrSymlink}, {"allowed/dot", ErrSymlink},
		{"allowed/dot/plain", ErrSymlink}, {"allowed/root", ErrSymlink}, {"allowed/root/etc/passwd", ErrSymlink}, {"allowed/loop", ErrSymlink},
		{"allowed/loop-a", ErrSymlink}, {"allowed/loop-a/x", ErrSymlink}, {"allowed/dangling", ErrSymlink}, {"allowed/dangling-out", ErrSymlink},
		{"allowed/fd0", ErrSymlink}, {"allowed/cwd", ErrSymlink}, {"allowed/cwd/x", ErrSymlink}, {"allowed/exe", ErrSymlink},
		{"allowed/procroot/etc/passwd", ErrSymlink}, {"allowed/passwd", ErrSymlink}, {"allowed/null-link", ErrSymlink}, {"allowed/chain", ErrSymlink},
		{"allowed/alias.sparsebundle", ErrSymlink}, {"allowed/alias.sparsebundle/token", ErrSymlink}, {"allowed/link.sparsebundle", ErrSymlink},
		{"allowed/link.sparsebundle/token", ErrSymlink}, {"allowed/fake/Info.plist", ErrSymlink},
		// neither file nor directory
		{"allowed/fifo", ErrKind}, {"allowed/sub/fifo", ErrKind}, {"allowed/socket", ErrKind}, {"allowed/fifo.sparsebundle", ErrKind},
		{"allowed/fifo.sparsebundle/token", ErrKind}, {"allowed/dir.sparsebundle", ErrKind},
		// second names
		{"allowed/two", ErrHardlinks}, {"allowed/two-again", ErrHardlinks}, {"allowed/pulled", ErrHardlinks},
		{"allowed/pulled.sparsebundle", ErrHardlinks}, {"allowed/pulled.sparsebundle/token", ErrHardlinks},
		// nothing there
		{"allowed/no", ErrNotFound}, {"allowed/no/no", ErrNotFound}, {"allowed/plain/x", ErrNotFound}, {"allowed/fifo/x", ErrNotFound},
		{"allowed/no-token.sparsebundle", ErrNoToken}, {"allowed/no-token.sparsebundle/token", ErrNotFound}, {"allowed/" + name256, ErrNotFound},
		{"allowed/" + name255 + "/x", ErrNotFound}, {"allowed/PLAIN", ErrNotFound}, {"allowed/plain ", ErrNotFound},
		// outside
		{"outside/secret", ErrOutside}, {"allowed-not/file", ErrOutside}, {"allowed-not", ErrOutside}, {"allowe", ErrOutside},
		{"allowed2", ErrOutside}, {"/etc/passwd", ErrOutside}, {"/proc/self/environ", ErrOutside}, {"/proc/self/root/etc/passwd", ErrOutside},
		{"/dev/null", ErrOutside}, {"/tmp", ErrOutside}, {"/x", ErrOutside},
		// not clean
		{"/", ErrPath}, {"allowed/", ErrPath}, {"allowed/plain/", ErrPath}, {"allowed//plain", ErrPath}, {"allowed/./plain", ErrPath},
		{"allowed/.", ErrPath}, {"allowed/..", ErrPath}, {"allowed/../outside/secret", ErrPath}, {"allowed/sub/../plain", ErrPath},
		{"allowed/sub/../../outside/secret", ErrPath}, {"allowed/../allowed/plain", ErrPath}, {"../outside", ErrPath}, {"allowed/out/..", ErrPath},
		{"allowed/plain\x00", ErrPath}, {"allowed/plain\x00/../../outside/secret", ErrPath}, {"allowed/\x00", ErrPath},
		{"//etc/passwd", ErrPath}, {"/../etc/passwd", ErrPath}, {"/allowed" + long, ErrPath},
	}
	for _, name := range oddNames {
		paths = append(paths, hostilePath{"allowed/" + name, nil}, hostilePath{"allowed/" + name + "/..", ErrPath})
	}
	if os.Geteuid() == 0 {
		for _, dev := range []string{"null", "zero-major", "loop-dev", "tty"} {
			paths = append(paths, hostilePath{"allowed/" + dev, ErrKind})
		}
	}
	return paths
}

func (h hostilePath) in(base string) string {
	if strings.HasPrefix(h.path, "/") {
		return h.path
	}
	return base + "/" + h.path
}

// state is all that a user can see of a file.
type state struct {
	Mode             uint32
	Nlink            uint64
	Uid, Gid         uint32
	Size             int64
	Atim, Mtim, Ctim unix.Timespec
	content          string
}

func stateOf(t testing.TB, path string) state {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	s := state{st.Mode, uint64(st.Nlink), st.Uid, st.Gid, st.Size, st.Atim, st.Mtim, st.Ctim, ""}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		buf := make([]byte, 4096)
		n, err := unix.Read(fd, buf)
		must(t, err)
		s.content = string(buf[:n])
	}
	return s
}

// statesBelow are those of everything in base. WalkDir reads directories, so their atime is set to something recent
// first: with relatime it then stays.
func statesBelow(t testing.TB, base string) map[string]state {
	t.Helper()
	all := make(map[string]state)
	must(t, filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			all[path] = stateOf(t, path)
		}
		return err
	}))
	return all
}
