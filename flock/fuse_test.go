package flock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Numbers of linux/fuse.h.
const (
	fuseLookup, fuseForget, fuseGetattr, fuseOpen, fuseRelease = 1, 2, 3, 14, 18
	fuseFlush, fuseInit, fuseOpendir, fuseReleasedir           = 25, 26, 27, 29
	fuseGetlk, fuseSetlk, fuseInterrupt, fuseBatchForget       = 31, 32, 36, 42

	fuseForwardsLocks = 1<<1 | 1<<10 // FUSE_POSIX_LOCKS, FUSE_FLOCK_LOCKS
)

// rootsFUSE mounts what root's sshfs or mergerfs is to us: a directory with "file" and, executable, "program". Forwarded
// locks are all granted, as bindfs was seen to do.
func rootsFUSE(t *testing.T, at string, initFlags uint32) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		t.Skipf("no FUSE here: %v", err)
	}
	must(t, err)
	must(t, unix.Mount("test", at, "fuse.test", 0, "fd="+strconv.Itoa(fd)+",rootmode=40000,user_id=0,group_id=0,allow_other"))
	served := make(chan struct{})
	go func() {
		defer close(served)
		buf := make([]byte, 1<<17)
		for {
			n, err := unix.Read(fd, buf)
			if err == unix.EINTR || err == unix.ENOENT { // interrupted requests
				continue
			}
			if err != nil {
				return // ENODEV: unmounted
			}
			if answer := fuseAnswer(buf[:n], initFlags); answer != nil {
				unix.Write(fd, answer)
			}
		}
	}()
	t.Cleanup(func() {
		unix.Unmount(at, 0)
		<-served
		unix.Close(fd)
	})
}

func fuseAnswer(request []byte, initFlags uint32) []byte {
	opcode := binary.NativeEndian.Uint32(request[4:])
	unique, node := binary.NativeEndian.Uint64(request[8:]), binary.NativeEndian.Uint64(request[16:])
	var body bytes.Buffer
	put := func(fields ...any) {
		for _, field := range fields {
			binary.Write(&body, binary.NativeEndian, field)
		}
	}
	attributes := func(node uint64) {
		mode := map[uint64]uint32{1: unix.S_IFDIR | 0o755, 2: unix.S_IFREG | 0o644, 3: unix.S_IFREG | 0o755}[node]
		put(node, uint64(0), uint64(0), [3]uint64{}, [3]uint32{}, mode, uint32(1), [5]uint32{})
	}
	var failed unix.Errno
	switch opcode {
	case fuseForget, fuseBatchForget, fuseInterrupt:
		return nil
	case fuseInit:
		put(uint32(7), uint32(31), uint32(0), initFlags, uint32(0), uint32(1<<16), uint32(1), [9]uint32{})
	case fuseLookup:
		node := map[string]uint64{"file": 2, "program": 3}[string(bytes.TrimRight(request[40:], "\x00"))]
		if node == 0 {
			failed = unix.ENOENT
			break
		}
		put(node, uint64(0), uint64(0), uint64(0), uint64(0))
		attributes(node)
	case fuseGetattr:
		put(uint64(0), uint64(0))
		attributes(node)
	case fuseOpen, fuseOpendir:
		put([2]uint64{})
	case fuseRelease, fuseReleasedir, fuseFlush, fuseGetlk, fuseSetlk:
	default:
		failed = unix.ENOSYS
	}
	var out bytes.Buffer
	if failed != 0 {
		body.Reset()
	}
	binary.Write(&out, binary.NativeEndian, uint32(16+body.Len()))
	binary.Write(&out, binary.NativeEndian, -int32(failed))
	binary.Write(&out, binary.NativeEndian, unique)
	out.Write(body.Bytes())
	return out.Bytes()
}

func rootsFUSENamed(t *testing.T, base string) {
	plant(t, base, "dir allowed/pool")
	rootsFUSE(t, base+"/allowed/pool", 0)
	refused(t, warned(t, []string{base + "/allowed/pool"}, base+"/allowed"), base+"/allowed/pool/file", ErrMount)
	for _, entry := range []string{"/allowed/pool", "/allowed/pool/file"} {
		o := newOpener(t, base+"/allowed", base+entry)
		f := locks(t, o, base+"/allowed/pool/file", OFD)
		if !f.Network {
			t.Error("a FUSE file is not called a network file: its lock calls may hang")
		}
		if got := newOutsider(t).tries(f.Path, "ofd", Exclusive); got != "busy" {
			t.Errorf("an outsider's ofd lock: %s", got)
		}
		closedFirst(t, f)
		_, err := o.Open(base+"/allowed/pool/file", Want{Mode: Exclusive, Engines: BSD})
		wantError(t, err, ErrEngines, "flock alone there")
	}
	o := newOpener(t, base+"/allowed/pool")
	closedFirst(t, locks(t, o, base+"/allowed/pool/program", OFD))
	refused(t, o, base+"/allowed/pool", ErrEngines)
	refused(t, o, base+"/allowed/pool/none", ErrNotFound)
}

func fuseThatGrantsAll(t *testing.T, base string) {
	plant(t, base, "dir pool")
	rootsFUSE(t, base+"/pool", fuseForwardsLocks)
	o := newOpener(t, base+"/pool")
	for _, m := range []Mode{Exclusive, Shared} {
		f, err := o.Open(base+"/pool/file", Want{Mode: m})
		must(t, err)
		for range 2 { // not remembered as good
			err = f.TryLock(m)
			wantError(t, err, ErrMeaningless, m.String())
			if f.held != 0 {
				t.Errorf("%s: %v is held after %v", m, f.held, err)
			}
		}
		must(t, f.Close())
	}
}
