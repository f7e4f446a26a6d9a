package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMountLinesSayWhoElseIsKeptOut(t *testing.T) {
	tests := []struct {
		line string
		kept kept // of the others; 0: there are none
		says string
	}{
		{`36 26 8:1 / /srv rw,noatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro`, 0, ""},
		{`36 26 0:50 / /srv rw - nfs4 nas:/vol rw,vers=4.2,local_lock=none,addr=10.0.0.1`, keptYes, ""},
		{`36 26 0:50 / /srv rw - nfs nas:/vol rw,vers=3,local_lock=flock`, keptYes, ""},
		{`36 26 0:50 / /srv rw - nfs nas:/vol rw,vers=3,local_lock=posix`, keptNo, "local_lock=posix"},
		{`36 26 0:50 / /srv rw - nfs nas:/vol rw,vers=3,nolock,local_lock=all`, keptNo, "nolock"},
		{`36 26 0:50 / /srv rw - nfs4 nas:/vol rw,local_lock=all`, keptNo, "local_lock=all"},
		{`36 26 0:50 / /srv rw - nfs4 nas:/vol rw`, keptUnknown, "cannot be told"},
		{`36 26 0:51 / /srv rw - fuse.bindfs /data rw,user_id=0,group_id=0,allow_other`, keptUnknown, "bindfs"},
		{`36 26 0:51 / /srv rw master:1 shared:2 - fuse x rw,user_id=1000`, keptUnknown, "FUSE"},
		{`36 26 8:2 / /srv rw - fuseblk /dev/sdb rw,user_id=0`, 0, ""},
		{`36 26 0:52 / /srv rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w`, keptNo, "upper or lower"},
		{`36 26 0:53 / /srv rw - cifs //nas/x rw,vers=3.1.1`, keptUnknown, "cannot be told"},
		{`36 26 0:53 / /srv rw - smb3 //nas/x rw,nobrl`, keptNo, "nobrl"},
		{`36 26 0:54 / /srv rw - ceph a,b:/ rw`, keptUnknown, "cannot be told"},
		{`36 26 0:54 / /srv rw - xfs  rw`, 0, ""}, // an empty source
	}
	for _, tt := range tests {
		mounts := parseMounts(tt.line + "\n")
		if len(mounts) != 1 || mounts[0].id != 36 || mounts[0].point != "/srv" {
			t.Errorf("%s: parsed as %+v", tt.line, mounts)
			continue
		}
		v, ok := mounts[0].judgeOthers()
		if ok != (tt.kept != 0) || v.kept != tt.kept || !strings.Contains(v.why, tt.says) {
			t.Errorf("%s: %v %q, want %v %q", tt.line, v.kept, v.why, tt.kept, tt.says)
		}
	}
}

func TestMountLinesAreReadAsTheKernelWritesThem(t *testing.T) {
	text := `1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /a\040b\011c\134d\043 ro,nosuid - xfs /dev/x\040y rw,attr2
junk
3 1 x
4 1 8:3 / /srv rw - ext4 /dev/old rw
5 1 8:4 / /srv rw - btrfs /dev/new rw
6 5 8:5 / /srv/deep rw - fuse.sshfs a@b: rw,user_id=77,user_id=0
7 1 8:6 / /short\04 rw - tmpfs none rw`
	mounts := parseMounts(text)
	tests := []struct{ path, fstype string }{
		{"/", "ext4"}, {"/x", "ext4"}, {"/a b\tc\\d#", "xfs"}, {"/a b\tc\\d#/x", "xfs"}, {"/srv", "btrfs"}, {"/srv/x", "btrfs"},
		{"/srvx", "ext4"}, {"/srv/deep/er", "fuse.sshfs"}, {`/short\04/x`, "tmpfs"},
	}
	for _, tt := range tests {
		if m := mountOf(mounts, tt.path); m == nil || m.fstype != tt.fstype {
			t.Errorf("%q is on %+v, want %s", tt.path, m, tt.fstype)
		}
	}
	if m := mountOf(mounts, "/a b\tc\\d#"); m.source != "/dev/x y" || !m.readOnly() || !m.has("attr2") {
		t.Errorf("read as %+v", m)
	}
	if m := mountOf(mounts, "/x"); m.readOnly() {
		t.Errorf("%+v is taken for read-only", m)
	}
	m := mountOf(mounts, "/srv/deep")
	if uid, yes := m.foreign(1000); uid != "77" || !yes || m.fuse() != "sshfs" {
		t.Errorf("foreign: %s %v, fuse %s", uid, yes, m.fuse())
	}
	if _, yes := m.foreign(77); yes {
		t.Error("one's own FUSE mount is taken for a foreign one")
	}
}

// A mount table that says that a directory is somebody's FUSE mount: nothing there is looked at, by whatever way one comes.
func TestForeignFUSEMountIsNotTouched(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(dir+"/fuse", 0o755), os.Symlink("fuse/../fuse", dir+"/link"), os.WriteFile(dir+"/file", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	d := patientDoctor()
	d.mountinfo = func() ([]byte, error) {
		return []byte("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / " + dir + "/fuse rw - fuse.evil x rw,user_id=54321\n"), nil
	}
	for _, path := range []string{dir + "/fuse", dir + "/fuse/not-there", dir + "/link/not-there"} {
		p, err := d.lookAtPath(t.Context(), path)
		if err != nil || p.foreign != "54321" || p.test.dir != "" {
			t.Errorf("%s: %+v, %v", path, p, err)
			continue
		}
		if w := p.worth(); w.ofd != keptUnknown || len(p.problems()) != 1 {
			t.Errorf("%s: worth %v, problems %q", path, w, p.problems())
		}
	}
	if p, err := d.lookAtPath(t.Context(), dir+"/file"); err != nil || p.foreign != "" || p.real != dir+"/file" {
		t.Errorf("beside it: %+v, %v", p, err)
	}
	if err := os.Symlink("loop", dir+"/loop"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.lookAtPath(t.Context(), dir+"/loop"); err == nil {
		t.Error("a loop of links leads somewhere")
	}
}
