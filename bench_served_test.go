package locker_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkServedFile prints what looking for deaf file servers adds to 'locker lock' of a plain file, from spawn to exit: beside an
// smb.conf without a share, in the same rounds. It needs root, for a mount namespace with an /etc/samba of its own, and the real testparm.
func BenchmarkServedFile(b *testing.B) {
	for _, program := range []string{"testparm", "unshare"} {
		if _, err := exec.LookPath(program); err != nil || os.Geteuid() != 0 {
			b.Skip("needs root and ", program)
		}
	}
	d := newBenchDir(b)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		b.Fatal(err)
	}
	smbd := filepath.Join(d.dir, "smbd") // its name is what is looked for
	if out, err := exec.Command("cp", sleep, smbd).CombinedOutput(); err != nil {
		b.Fatalf("%v %s", err, out)
	}
	runs := exec.Command(smbd, "infinity")
	if err := runs.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		runs.Process.Kill()
		runs.Wait()
	}()
	s := d.startLockerd(b, false)
	defer s.stop()
	const macs = "\tvfs objects = fruit streams_xattr\n\tfruit:time machine = yes\n"
	confs := []struct{ name, text string }{
		{"an smb.conf without a share", "[global]\n"},
		{"an smb.conf without it, of shares that do not heed locks", "[tm]\n\tpath = /srv/tm\n" + macs},
		{"a share of Samba's defaults serves it", "[files]\n\tpath = " + d.files + "\n"},
		{"a share that does not heed locks serves it: testparm is asked", "[tm]\n\tpath = " + d.files + "\n" + macs},
	}
	took := make([][]benchResult, len(confs))
	for range benchRounds {
		for i, c := range confs {
			took[i] = append(took[i], d.timeUnder(b, c.text, filepath.Join(d.dir, "locker"), "lock", "--socket", s.socket, d.file(0)))
		}
	}
	ms := func(r benchResult) float64 { return float64(r.P50) / 1e6 }
	fmt.Printf("\n| `locker lock` of a plain file, from spawn to exit | p50 ms | ratio |\n| --- | --- | --- |\n")
	for i, c := range confs {
		fmt.Printf("| %s | %s | %s |\n", c.name, format(median(took[i], ms)), format(medianRatio(took[i], took[0], ms)))
	}
	fmt.Println()
	b.ReportMetric(medianRatio(took[1], took[0], ms), "unserved/none")
	b.ReportMetric(medianRatio(took[3], took[0], ms), "served/none")
}

// timeUnder times a command where /etc/samba has this smb.conf and nothing else.
func (d *benchDir) timeUnder(b *testing.B, conf string, argv ...string) (r benchResult) {
	b.Helper()
	file := filepath.Join(d.dir, "smb.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-ec",
		`mount -t tmpfs tmpfs /etc/samba; cp "$0" /etc/samba/smb.conf; exec "$@"`, file, os.Args[0]}, argv...)...)
	cmd.Env = append(os.Environ(), "LOCKER_BENCH=command")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		b.Fatalf("%q: %v", argv, err)
	}
	return r
}
