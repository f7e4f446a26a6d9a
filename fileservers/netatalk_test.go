package fileservers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// realAFPD is where the tests look for a root directory with a netatalk in it, which Debian 12 has not: doc.go says how to make one.
const realAFPD = "LOCKER_TEST_NETATALK"

// afpConf is the configuration of a volume, tm.
func afpConf(dir, own string, port int) string {
	return fmt.Sprintf(`[Global]
afp listen = 127.0.0.1:%d
zeroconf = no
uam list = uams_guest.so
guest account = nobody
signature = 0123456789abcdef
vol dbpath = %[2]s
log file = %[2]s/log
log level = default:info

[tm]
path = %[3]s
time machine = yes
cnid scheme = last
`, port, own, dir)
}

// imitateAFPD has each client served by a process that makes afpd's system calls.
func imitateAFPD(_ *testing.T, dir string) *served {
	return &served{
		conf: afpConf(dir, "/", 548), place: "netatalk/afp.conf",
		dial: func(t *testing.T) *mac { return dial(t, "testdata/afpd_imitation.py", dir) },
	}
}

// startAFPD serves dir with the afpd of another Debian, whose root directory is root, until the test ends. In a mount namespace of its own
// that root has the directory by the same name, so that its configuration is one that doctor can read too.
func startAFPD(root string) func(t *testing.T, dir string) *served {
	return func(t *testing.T, dir string) *served {
		t.Helper()
		own := filepath.Join(filepath.Dir(dir), "afpd")
		must(t, os.Mkdir(own, 0o755))
		port := freePort(t)
		conf := afpConf(dir, own, port)
		must(t, os.WriteFile(filepath.Join(own, "afp.conf"), []byte(conf), 0o644))
		run(t, port, filepath.Join(own, "log"), exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-ec",
			`mkdir -p "$0$1"; mount --bind "$1" "$0$1"; exec chroot "$0" /usr/sbin/afpd -d -F "$1/afpd/afp.conf"`, root, filepath.Dir(dir)))
		return &served{
			conf: conf, place: "netatalk/afp.conf",
			dial: func(t *testing.T) *mac { return dial(t, "testdata/afp.py", fmt.Sprint(port), "tm") },
		}
	}
}
