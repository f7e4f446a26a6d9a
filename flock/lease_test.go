package flock

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLeaseMeansBusyAndDoesNotHang(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	fds := descriptors(t)
	p := newOutsider(t)
	p.does("open", "rw", path)
	p.does("lease")
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	for _, m := range []Mode{Exclusive, Shared} {
		_, err := o.Open(path, Want{Mode: m})
		wantError(t, err, ErrBusy, "open a leased file, "+m.String())
		var busy *OpenBusy
		if !errors.As(err, &busy) || busy.Path != path || busy.ID != (ID{st.Dev, st.Ino}) {
			t.Errorf("%s: got %#v", m, err)
		}
	}
	p.does("unlease")
	f := open(t, o, path)
	must(t, f.TryLock(Exclusive))
	must(t, f.Close())
	p.end()
	sameDescriptors(t, fds)
}

const (
	immutable  = 0x10 // FS_IMMUTABLE_FL, ioctl_iflags(2)
	appendOnly = 0x20
)

func TestImmutableAndAppendOnlyFilesTakeFlock(t *testing.T) {
	needRoot(t)
	dir := publicDir(t)
	o := newOpener(t, dir)
	for flag, name := range map[uint32]string{immutable: "immutable", appendOnly: "append-only"} {
		path := newFile(t, dir+"/"+name)
		file, err := os.Open(path)
		must(t, err)
		defer file.Close()
		flags, err := unix.IoctlGetUint32(int(file.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			err = unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, int(flags|flag))
		}
		if err != nil {
			t.Skipf("this file system has no such flag: %v", err)
		}
		defer unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, int(flags))
		f := open(t, o, path)
		if f.Engines != BSD {
			t.Errorf("%s: engines %v", name, f.Engines)
		}
		must(t, f.TryLock(Exclusive))
		_, err = o.Open(path, Want{Mode: Exclusive, Engines: OFD})
		wantError(t, err, ErrEngines, name+" with ofd alone")
	}
}
