package authz

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func userFilesOf(t *testing.T, passwd, group string) userFiles {
	t.Helper()
	dir := t.TempDir()
	f := userFiles{filepath.Join(dir, "passwd"), filepath.Join(dir, "group")}
	for name, text := range map[string]string{f.passwd: passwd, f.group: group} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\n" +
		"toor:x:0:0::/root:/bin/sh\n" +
		"# comment:x:5:5::/:\n\n" +
		"+nis:x:6:6::/:\n-bad:x:6:6::/:\n+::::::\n" +
		"alice:x:1000:100:Alice:/home/alice:/bin/sh\n" +
		"alice:x:4242:100:again:/:/bin/sh\n" +
		"short:x:7\n:x:8:8::/:\nneg:x:-1:1::/:\nbig:x:4294967296:1::/:\nhex:x:0x10:1::/:\nsp:x: 9:1::/:\n" +
		"1001:x:1500:1500::/:/bin/sh\n" +
		"a/b:x:1600:1600::/:/bin/sh\n" +
		"nogid:x:1700:x::/:/bin/sh\n" +
		"nobody:x:65534:65534::/:/bin/sh\n" +
		"last:x:1800:1800::/:/bin/sh" // no newline
	testGroup = "root:x:0:\nbackup:x:34:alice,bob\nstaff:x:50:bob\nalice:x:100:\nadm:x:4:syslog,alice\nxalice:x:60:malice,alicex\n"
)

func TestUserFilesAreReadAsGetpwnamDoes(t *testing.T) {
	f := userFilesOf(t, testPasswd, testGroup)
	for name, want := range map[string]uint32{"root": 0, "toor": 0, "alice": 1000, "1001": 1500, "a/b": 1600, "nobody": 65534, "last": 1800} {
		if got, err := f.UID(name); got != want || err != nil {
			t.Errorf("%q: got %d %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "Alice", "nis", "+nis", "-bad", "# comment", "short", "neg", "big", "hex", "sp", "alice:x", "x", "+"} {
		if got, err := f.UID(name); !errors.Is(err, ErrUnknownName) {
			t.Errorf("%q: got %d %v", name, got, err)
		}
	}
	names, err := f.Names()
	want := map[uint32]string{0: "root", 1000: "alice", 4242: "alice", 1500: "1001", 1600: "a/b", 1700: "nogid", 65534: "nobody", 1800: "last"}
	if err != nil || !maps.Equal(names, want) {
		t.Errorf("got %v %v, want %v", names, err, want)
	}
	if gid, err := f.GID("backup"); gid != 34 || err != nil {
		t.Errorf("%d %v", gid, err)
	}
	if _, err := f.GID("alicex"); !errors.Is(err, ErrUnknownName) {
		t.Errorf("%v", err)
	}
	u, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := u.(groupNames).GroupNames(); err != nil || !slices.Equal(slices.Sorted(slices.Values(got)), []string{"adm", "alice", "backup", "root", "staff", "xalice"}) {
		t.Errorf("%q %v", got, err)
	}
	missing := userFiles{"/nonexistent/passwd", "/nonexistent/group"}
	if _, err := missing.Names(); err == nil {
		t.Error("a missing file is no error")
	}
	if _, err := missing.UID("root"); err == nil || errors.Is(err, ErrUnknownName) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestAccountPeerTakesNamesAndNumbers(t *testing.T) {
	f := userFilesOf(t, testPasswd, testGroup)
	for _, c := range []struct {
		user      string
		hasGroups bool
		groups    []string
		want      Peer
		fails     string
	}{
		{"alice", false, nil, PeerFor(1000, 100, []uint32{4, 34}), ""},
		{"alice", true, nil, PeerFor(1000, 100, nil), ""},
		{"alice", true, []string{"staff", "34"}, PeerFor(1000, 100, []uint32{34, 50}), ""},
		{"1000", false, nil, PeerFor(1000, 100, []uint32{4, 34}), ""},
		{"1001", false, nil, PeerFor(1500, 1500, nil), ""}, // a name first
		{"7777", false, nil, PeerFor(7777, 7777, nil), ""},
		{"root", false, nil, PeerFor(0, 0, nil), ""},
		{"alcie", false, nil, Peer{}, `unknown user "alcie"; did you mean "alice"?`},
		{"", false, nil, Peer{}, `unknown user ""`},
		{"nobody", false, nil, Peer{}, "stand for nobody"},
		{"4294967295", false, nil, Peer{}, "stand for nobody"},
		{"nogid", false, nil, Peer{}, "is not a number"},
		{"alice", true, []string{"zzz"}, Peer{}, `unknown group "zzz"`},
		{"alice", true, []string{"-1"}, Peer{}, `unknown group "-1"`},
	} {
		got, err := f.peer(c.user, c.hasGroups, c.groups)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) || got.Known() {
				t.Errorf("%q: got %+v %v, want %q", c.user, got, err, c.fails)
			}
			continue
		}
		if err != nil || got.UID != c.want.UID || got.GID != c.want.GID || !slices.Equal(got.Groups, c.want.Groups) || !got.Known() {
			t.Errorf("%q: got %+v %v, want %+v", c.user, got, err, c.want)
		}
	}
}

func TestSystemUsersKnowsRoot(t *testing.T) {
	if uid, err := SystemUsers().UID("root"); uid != 0 || err != nil {
		t.Errorf("%d %v", uid, err)
	}
	if names, err := SystemUsers().Names(); err != nil || names[0] == "" {
		t.Errorf("%v %v", names, err)
	}
	if peer, err := AccountPeer("0", true, nil); err != nil || peer.UID != 0 || !peer.Known() {
		t.Errorf("%+v %v", peer, err)
	}
}
