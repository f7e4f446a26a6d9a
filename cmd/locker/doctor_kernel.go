package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelReport says what the kernel can, as tried with our own rights. "unknown" where it could not be tried.
type kernelReport struct {
	release string
	// each: keptYes, keptNo or keptUnknown
	ofd, openat2, pidfd, pidfs, peerPIDFD, lease, fanotify kept
}

func lookAtKernel() kernelReport {
	var k kernelReport
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		k.release = unix.ByteSliceToString(name.Release[:])
	}
	// Only package flock may call openat2 (laws_test.go): the version says it, unless a distribution has brought it into an
	// older kernel, or a seccomp filter refuses it.
	switch since, ok := atLeast(k.release, 5, 6); {
	case !ok, !since:
		k.openat2 = keptUnknown
	default:
		k.openat2 = keptYes
	}
	k.ofd = keptUnknown
	if fd, err := unix.MemfdCreate("locker-doctor", unix.MFD_CLOEXEC); err == nil {
		k.ofd = works(unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
		unix.Close(fd)
	}
	k.lease = keptUnknown // a memfd has none; where the temporary files are, it depends on the file system
	if fd, err := unix.Open(os.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		if tryLease(fd).outcome == outcomeExcludes {
			k.lease = keptYes
		}
		unix.Close(fd)
	}
	k.pidfd, k.pidfs = keptNo, keptNo
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err == nil {
		k.pidfd = keptYes
		var fs unix.Statfs_t
		if unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PID_FS_MAGIC {
			k.pidfs = keptYes
		}
		unix.Close(fd)
	}
	k.peerPIDFD = tryPeerPIDFD()
	// Without the right to it, the call says EPERM; without fanotify, ENOSYS. fanotify_init(2)
	switch fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC, unix.O_RDONLY); err {
	case nil:
		unix.Close(fd)
		k.fanotify = keptYes
	case unix.ENOSYS:
		k.fanotify = keptNo
	case unix.EPERM:
		k.fanotify = keptYes
	default:
		k.fanotify = keptUnknown
	}
	return k
}

func works(err error) kept {
	if err == nil {
		return keptYes
	}
	return keptNo
}

func tryPeerPIDFD() kept {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return keptUnknown
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	fd, err := unix.GetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		return keptNo
	}
	unix.Close(fd)
	return keptYes
}

// atLeast reads "6.18.44-fc-v782".
func atLeast(release string, major, minor int) (is, ok bool) {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	if end := strings.IndexFunc(second, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		second = second[:end]
	}
	a, err := strconv.Atoi(first)
	b, err2 := strconv.Atoi(second)
	if err != nil || err2 != nil {
		return false, false
	}
	return a > major || a == major && b >= minor, true
}

// problems are what lockerd cannot work without.
func (k *kernelReport) problems() []string {
	if k.ofd == keptNo {
		return []string{whyNoOFD}
	}
	return nil
}

// guardReport says whether lockerd's guard, which is made of fanotify's permission events, is possible here.
type guardReport struct {
	kernel kept
	source string // the file that says it; "" if none does
}

const (
	permissionEvents = "CONFIG_FANOTIFY_ACCESS_PERMISSIONS"
	maxKernelConfig  = 4 << 20 // bytes
)

// lookAtGuard reads how the kernel was built: to try it would need CAP_SYS_ADMIN.
func (d *doctor) lookAtGuard(release string) guardReport {
	places := []string{filepath.Join(d.proc, "config.gz")}
	if release != "" && !strings.Contains(release, "/") {
		places = append(places, "/boot/config-"+release, "/lib/modules/"+release+"/config")
	}
	for _, path := range places {
		if text, err := readKernelConfig(path); err == nil {
			return guardReport{configured(text), path}
		}
	}
	return guardReport{kernel: keptUnknown}
}

func readKernelConfig(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return "", err
		}
	}
	text, err := io.ReadAll(io.LimitReader(r, maxKernelConfig))
	return string(text), err
}

func configured(config string) kept {
	for line := range strings.Lines(config) {
		switch strings.TrimSpace(line) {
		case permissionEvents + "=y":
			return keptYes
		case "# " + permissionEvents + " is not set":
			return keptNo
		}
	}
	return keptNo // not even asked for: there is no fanotify
}
