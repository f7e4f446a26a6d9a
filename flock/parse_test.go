package flock

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func splitLines(text []byte) []string { return strings.Split(string(text), "\n") }

const sampleMountinfo = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 35 98:0 /mnt1 /mnt\0402\011\012\134\043 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue
80 27 0:50 / /home/alice/m rw,nosuid,nodev,relatime shared:9 - fuse.sshfs alice@host:/ rw,user_id=1000,group_id=1000,user_id=0
81 27 0:51 / /mnt/pool//deleted rw - fuse.mergerfs a:b rw,user_id=0,group_id=0
82 27 0:52 / /mnt/none rw - tmpfs  rw
83 27 0:53 / /x rw - 9p
`

func TestMountinfoIsRead(t *testing.T) {
	_, err := parseMountinfo([]byte(sampleMountinfo))
	if err == nil {
		t.Error("a line that ends after its type was taken")
	}
	got, err := parseMountinfo([]byte(strings.TrimSuffix(sampleMountinfo, "83 27 0:53 / /x rw - 9p\n")))
	must(t, err)
	want := []mountLine{
		{22, unix.Mkdev(0, 21), "/proc", "proc", -1}, {27, unix.Mkdev(254, 0), "/", "ext4", -1},
		{36, unix.Mkdev(98, 0), "/mnt 2\t\n\\#", "ext3", -1}, {80, unix.Mkdev(0, 50), "/home/alice/m", "fuse.sshfs", 1000},
		{81, unix.Mkdev(0, 51), "/mnt/pool//deleted", "fuse.mergerfs", 0}, {82, unix.Mkdev(0, 52), "/mnt/none", "tmpfs", -1},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, bad := range []string{"", "x", "1 2 3:4 / / rw", "1 2 3:4 / / rw -", "x 2 3:4 / / rw - ext4 a rw", "1 2 3 / / rw - ext4 a rw",
		"1 2 3:x / / rw - ext4 a rw", `1 2 3:4 / /\04 rw - ext4 a rw`, `1 2 3:4 / /\400 rw - ext4 a rw`, `1 2 3:4 / /\09x rw - ext4 a rw`,
		`1 2 3:4 / / rw - ext\4 a rw`, "1 2 3:4 / / rw - fuse a rw,user_id=", "1 2 3:4 / / rw - fuse a rw,user_id=-1"} {
		if l, err := parseMountLine(bad); err == nil {
			t.Errorf("%q was taken as %+v", bad, l)
		}
	}
}

func TestMountsAreClassified(t *testing.T) {
	for _, c := range []struct {
		line    mountLine
		enter   entry
		network bool
	}{
		{mountLine{fstype: "ext4", fuseUID: -1}, free, false}, {mountLine{fstype: "btrfs", fuseUID: -1}, free, false},
		{mountLine{fstype: "tmpfs", fuseUID: -1}, free, false}, {mountLine{fstype: "nfs4", fuseUID: -1}, ifNamed, true},
		{mountLine{fstype: "cifs", fuseUID: -1}, ifNamed, true}, {mountLine{fstype: "proc", fuseUID: -1}, never, false},
		{mountLine{fstype: "autofs", fuseUID: -1}, never, false}, {mountLine{fstype: "fuse.x", fuseUID: 0}, ifNamed, true},
		{mountLine{fstype: "fuse.x", fuseUID: 1000}, never, true}, {mountLine{fstype: "fuse.x", fuseUID: 7}, ifNamed, true},
		{mountLine{fstype: "fuseblk", fuseUID: 1000}, never, true}, {mountLine{fstype: "fuse", fuseUID: 1}, never, true},
	} {
		if e, n, _ := classify(&c.line, 7); e != c.enter || n != c.network {
			t.Errorf("%+v: got %v, %v, want %v, %v", c.line, e, n, c.enter, c.network)
		}
	}
	var unknown entry
	if unknown != never {
		t.Error("the zero value of entry lets in")
	}
}

func TestLockLinesAreRead(t *testing.T) {
	dev := unix.Mkdev(0xfe, 0)
	for line, want := range map[string]lockLine{
		"1: FLOCK  ADVISORY  WRITE 708 fe:00:7970 0 EOF":        {"FLOCK", Exclusive, 708, dev, 7970},
		"12: POSIX  ADVISORY  READ 1 fe:00:7970 5 9":            {"POSIX", Shared, 1, dev, 7970},
		"3: OFDLCK ADVISORY  WRITE -1 fe:00:18446744073709 0 0": {"OFDLCK", Exclusive, -1, dev, 18446744073709},
		"4: LEASE  ACTIVE    READ 5 fe:00:1 0 EOF":              {"LEASE", Shared, 5, dev, 1},
		"5: LEASE  BREAKING  UNLCK 5 fe:00:1 0 EOF":             {"LEASE", Exclusive, 5, dev, 1},
		"6: FLOCK ADVISORY WRITE 1 00:1d:4 0 EOF":               {"FLOCK", Exclusive, 1, unix.Mkdev(0, 0x1d), 4},
	} {
		if got, ok := parseLockLine(line); !ok || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", "1:", "1: -> FLOCK  ADVISORY  WRITE 709 fe:00:7970 0 EOF", "1:  -> POSIX ADVISORY READ 1 fe:00:1 0 EOF",
		"1: FLOCK ADVISORY NONE 1 fe:00:1 0 EOF", "1: FLOCK ADVISORY WRITE x fe:00:1 0 EOF", "1: FLOCK ADVISORY WRITE -2 fe:00:1 0 EOF",
		"1: FLOCK ADVISORY WRITE 1 fe:00 0 EOF", "1: FLOCK ADVISORY WRITE 1 <none>:0 0 EOF", "1: FLOCK ADVISORY WRITE 99999999999 fe:00:1 0 EOF",
		"1: FLOCK ADVISORY UNLCK 1 fe:00:1 0 EOF", "x FLOCK ADVISORY WRITE 1 fe:00:1 0 EOF"} {
		if got, ok := parseLockLine(line); ok {
			t.Errorf("%q was taken as %+v", line, got)
		}
	}
	text := "1: FLOCK ADVISORY WRITE 1 fe:00:79 0 EOF\n2: FLOCK ADVISORY WRITE 2 fe:00:7 0 EOF\n2: -> FLOCK ADVISORY WRITE 3 fe:00:7 0 EOF\n" +
		"3: ACCESS ADVISORY WRITE 2 fe:00:7 0 EOF\n4: OFDLCK ADVISORY READ -1 aa:00:7 0 EOF\n5: FLOCK ADVISORY WRITE 6 fe:00:1 :7 EOF"
	if got := linesOfInode([]byte(text), 7); len(got) != 2 || got[0].pid != 2 || got[1].pid != -1 {
		t.Errorf("lines of inode 7: %+v", got)
	}
	if uid, ok := parseStatusUID([]byte("Name:\ta\nUmask:\t0\nUid:\t1\t2\t3\t4\n")); !ok || uid != 2 {
		t.Errorf("effective uid %d, %v", uid, ok)
	}
}

func escapeOctal(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(" \t\n\\#", s[i]) >= 0 {
			fmt.Fprintf(&b, `\%03o`, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func seedFrom(f *testing.F, files ...string) {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
}

// What is taken says where it stands: the mount point as the kernel writes it is found in the line.
func FuzzMountinfo(f *testing.F) {
	seedFrom(f, "/proc/self/mountinfo")
	f.Add(sampleMountinfo)
	f.Add(`1 2 3:4 / /\040\134\011 rw - fuse a rw,user_id=1`)
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parseMountinfo([]byte(text))
		if err != nil {
			return
		}
		for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if len(lines) == 0 && line == "" {
				break
			}
			field := strings.Split(line, " ")[4]
			back, err := unescapeOctal(escapeOctal(lines[i].point))
			if err != nil || back != lines[i].point {
				t.Errorf("%q: %q does not survive", line, lines[i].point)
			}
			if !strings.ContainsAny(field, "\\\t#") && field != lines[i].point {
				t.Errorf("%q: mount point is %q", line, lines[i].point)
			}
			if e, _, why := classify(&lines[i], 0); e == never && why == "" {
				t.Errorf("%q is refused without a reason", line)
			}
		}
	})
}

// A line that is taken is the line that the kernel would write for it.
func FuzzLockLine(f *testing.F) {
	f.Add("1: FLOCK  ADVISORY  WRITE 708 00:13:7970 0 EOF")
	f.Add("3: OFDLCK ADVISORY  READ -1 fe:00:1 0 EOF")
	f.Add("5: LEASE  BREAKING  UNLCK 5 fe:00:1 0 EOF")
	f.Add("1: -> FLOCK  ADVISORY  WRITE 709 fe:00:7970 0 EOF")
	f.Fuzz(func(t *testing.T, line string) {
		l, ok := parseLockLine(line)
		if !ok {
			return
		}
		mode := map[Mode]string{Exclusive: "WRITE", Shared: "READ"}[l.mode]
		again := fmt.Sprintf("1: %s ADVISORY %s %d %02x:%02x:%d 0 EOF", l.kind, mode, l.pid, unix.Major(l.dev), unix.Minor(l.dev), l.ino)
		if back, ok := parseLockLine(again); !ok || back != l {
			t.Errorf("%q was taken as %+v, which is %q and reads %+v, %v", line, l, again, back, ok)
		}
		if !strings.Contains(line, "\n") && l.engine() != "" && strings.Contains(line, fmt.Sprintf(":%d ", l.ino)) {
			if got := linesOfInode([]byte("x\n"+line+"\n"), l.ino); len(got) != 1 || got[0] != l {
				t.Errorf("%q is not found by its inode: %+v", line, got)
			}
		}
	})
}

func FuzzFdinfo(f *testing.F) {
	f.Add("pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t9978162\nlock:\t1: FLOCK  ADVISORY  WRITE 15309 fe:00:9978162 0 EOF\n")
	f.Add("pos:\t0\nlock:\t1: OFDLCK ADVISORY  READ -1 fe:00:1 0 EOF\nlock:\t2: -> x\ninotify wd:3 ino:9e7e sdev:800013\n")
	f.Add("Name:\tx\nUid:\t1\t2\t3\t4\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got, most := len(parseFdinfo([]byte(text))), strings.Count(text, "lock:\t"); got > most {
			t.Errorf("%q: %d locks in %d lines", text, got, most)
		}
		if _, ok := parseStatusUID([]byte(text)); ok && !strings.Contains(text, "Uid:\t") {
			t.Errorf("%q has a uid", text)
		}
	})
}
