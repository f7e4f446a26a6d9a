package locker_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// players are the programs that scripts run beside locker and lockerd: the test binary under other names.
func players() map[string]func(args []string) error {
	return map[string]func(args []string) error{
		"asuser": asUser, "private": private, "inside": inside, "activate": activate, "hold": hold, "try": try, "never": never, "fds": fds, "rebooted": rebooted, "readonly": readOnly, "boot": boot, "guardedby": guardedBy,
	}
}

// play does what the test binary was started for, if it is by a player's name.
func play() bool {
	player := players()[filepath.Base(os.Args[0])]
	if player == nil {
		return false
	}
	if err := player(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
		os.Exit(99)
	}
	return true
}

func (h *house) installPlayers(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(h.bin, ".players")
	copyProgram(t, self, first)
	for name := range players() {
		if err := os.Link(first, filepath.Join(h.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// become runs a program in our place.
func become(argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}

// asUser UID GROUP[,GROUP...] COMMAND...: as another user, who need not be in the user database.
func asUser(args []string) error {
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var groups []int
	for _, g := range strings.Split(args[1], ",") {
		gid, err := strconv.Atoi(g)
		if err != nil {
			return err
		}
		groups = append(groups, gid)
	}
	if err := syscall.Setgroups(groups[1:]); err != nil {
		return err
	}
	if err := syscall.Setresgid(groups[0], groups[0], groups[0]); err != nil {
		return err
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return err
	}
	return become(args[2:])
}

// private DIR[:SIZE]... -- COMMAND...: with an empty file system of its own on each DIR, which nobody else sees and which is
// gone with the last process in there. mount_namespaces(7).
func private(args []string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for i, arg := range args {
		if arg == "--" {
			return become(args[i+1:])
		}
		dir, size, _ := strings.Cut(arg, ":")
		options := "mode=755"
		if size != "" {
			options += ",size=" + size
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			return fmt.Errorf("mount on %s: %w", dir, err)
		}
	}
	return fmt.Errorf("no -- in %q", args)
}

// inside PID COMMAND...: where the process PID is that private has started. setns(2).
func inside(args []string) error {
	runtime.LockOSThread()
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	ns, err := unix.Open("/proc/"+args[0]+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	return become(args[1:])
}

// activate SOCKET COMMAND...: what a service manager does. sd_listen_fds(3).
func activate(args []string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: args[0], Net: "unix"})
	if err != nil {
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	if f.Fd() != 3 {
		if err := unix.Dup3(int(f.Fd()), 3, 0); err != nil {
			return err
		}
	} else if _, err := unix.FcntlInt(3, unix.F_SETFD, 0); err != nil {
		return err
	}
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	os.Setenv("LISTEN_FDS", "1")
	os.Setenv("LISTEN_FDNAMES", "lockerd.socket")
	return become(args[1:])
}

// take claims a whole file in one of three ways.
func take(kind, file string) error {
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return takeBy(kind, fd)
}

func takeBy(kind string, fd int) error {
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	switch kind {
	case "flock":
		return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	case "ofd":
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &whole)
	case "posix":
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &whole)
	}
	return fmt.Errorf("a lock is flock, ofd or posix, not %q", kind)
}

// hold flock|ofd|posix FILE READY: hold a lock until killed; READY is there once it is held.
func hold(args []string) error {
	if err := take(args[0], args[1]); err != nil {
		return err
	}
	if err := os.WriteFile(args[2], nil, 0o666); err != nil {
		return err
	}
	for { // not select{}: a program that only waits for itself is ended by Go's runtime
		unix.Ppoll(nil, nil, nil)
	}
}

// try flock|ofd|posix FILE: exit with 0 if it can be locked now, with 1 if somebody is in the way.
func try(args []string) error {
	err := take(args[0], args[1])
	if err == unix.EAGAIN {
		os.Exit(1)
	}
	return err
}

// never FILE STOP: try to lock FILE in both ways, again and again, until STOP is there. It is an error that it ever could be. What
// it tells on standard output is how often it has tried.
func never(args []string) error {
	for n := 0; ; n++ {
		for _, kind := range []string{"flock", "ofd"} {
			fd, err := unix.Open(args[0], unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = takeBy(kind, fd)
			unix.Close(fd)
			if err != unix.EAGAIN {
				return fmt.Errorf("%s of %s at try %d: %v, want that it is held", kind, args[0], n, err)
			}
		}
		if _, err := os.Stat(args[1]); err == nil {
			fmt.Println(n)
			return nil
		}
		pause := unix.NsecToTimespec(300_000)
		unix.Nanosleep(&pause, nil)
	}
}

// fds prints what its descriptors lead to, without the numbers that differ from run to run.
func fds([]string) error {
	numbers := regexp.MustCompile(`[0-9]+`)
	names, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return err
	}
	for _, name := range names {
		if target, err := os.Readlink(name); err == nil {
			fmt.Println(filepath.Base(name), numbers.ReplaceAllString(target, "N"))
		}
	}
	return nil
}
