package fileservers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python is Debian's own, for which python3-impacket is.
const python = "/usr/bin/python3"

// need skips a test that needs root or these programs, unless all tests must run.
func need(t *testing.T, programs ...string) {
	t.Helper()
	missing := ""
	if os.Geteuid() != 0 {
		missing = "root"
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = p
		}
	}
	if missing == "" {
		return
	}
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		t.Fatalf("LOCKER_TEST_ALL is set, and this test needs %s", missing)
	}
	t.Skipf("needs %s", missing)
}

// needSamba is need for smbd and its client.
func needSamba(t *testing.T, programs ...string) {
	t.Helper()
	need(t, append(programs, "smbd", python)...)
	if out, err := exec.Command(python, "-c", "import impacket").CombinedOutput(); err != nil {
		if os.Getenv("LOCKER_TEST_ALL") != "" {
			t.Fatalf("LOCKER_TEST_ALL is set, and this test needs python3-impacket: %s", out)
		}
		t.Skip("needs python3-impacket")
	}
}

// startSmbd serves dir as nobody, until the test ends.
func startSmbd(t *testing.T, dir string, s setting) *served {
	t.Helper()
	own, err := os.MkdirTemp("", "smbd") // of a short name: its sockets' names have room for 107 bytes. unix(7)
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(own) })
	port := freePort(t)
	conf := fmt.Sprintf(`[global]
smb ports = %d
interfaces = 127.0.0.1
bind interfaces only = yes
logging = file
log file = %[2]s/log
server role = standalone server
map to guest = Bad User
guest account = nobody
disable spoolss = yes
load printers = no
disable netbios = yes
`, port, own)
	for _, name := range []string{"private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
		sub := filepath.Join(own, strings.ReplaceAll(name, " ", "-"))
		must(t, os.Mkdir(sub, 0o755))
		conf += name + " = " + sub + "\n"
	}
	conf += "[tm]\npath = " + dir + "\nguest ok = yes\nread only = no\nvfs objects = fruit streams_xattr\n" + s.lines
	file := filepath.Join(own, "smb.conf")
	must(t, os.WriteFile(file, []byte(conf), 0o644))
	run(t, port, filepath.Join(own, "log"), exec.Command("smbd", "--foreground", "--no-process-group", "--configfile", file))
	return &served{
		conf: conf, place: "samba/smb.conf",
		dial: func(t *testing.T) *mac { return dial(t, "testdata/smb.py", fmt.Sprint(port), "tm") },
	}
}
