package locker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// installation is README's "Install", in a container, with a policy and files to lock.
func installation(t *testing.T, h *house) *container {
	t.Helper()
	c := bootContainer(t, h)
	for _, name := range []string{"locker", "lockerd", "hold", "try", "never", "asuser"} {
		c.put(t, filepath.Join(h.bin, name), filepath.Join("/usr/local/bin", name), 0o755)
	}
	for from, to := range map[string]string{
		"lockerd.socket": "/etc/systemd/system/lockerd.socket", "lockerd.service": "/etc/systemd/system/lockerd.service",
		"lockerd-keeper.service": "/etc/systemd/system/lockerd-keeper.service", "lockerd-guard.service": "/etc/systemd/system/lockerd-guard.service",
		"lockerd.sysusers": "/usr/lib/sysusers.d/lockerd.conf",
	} {
		c.put(t, filepath.Join(h.repo, "etc", from), to, 0o644)
	}
	c.write(t, "/etc/locker/locker.toml", "allow = [\"/srv/share\"]\n\n[[rule]]\nname = \"all\"\nusers = [\"*\"]\npaths = [\"/srv/share\"]\ncan = [\"lock\", \"lock-shared\", \"list\"]\n", 0o600)
	for _, name := range []string{"f", "g", "h"} {
		c.write(t, "/srv/share/"+name, "", 0o600)
	}
	c.do(t, "systemd-sysusers")
	c.do(t, "systemctl", "daemon-reload")
	c.do(t, "systemctl", "enable", "--now", "lockerd.socket", "lockerd.service")
	return c
}

// Whatever is done to the services, but for stopping them, nobody sees a held file free, and no client notices.
func TestServicesUnderSystemdAreRestartedWithoutAPause(t *testing.T) {
	h := newHouse(t)
	c := installation(t, h)
	token := regexp.MustCompile(`token=([0-9]+)`)
	held := c.start(t, "locker", "run", "--reason", "backup", "/srv/share/f", "--", "sh", "-c",
		"trap 'echo disturbed; exit 9' TERM; touch /run/begun; until [ -e /run/over ]; do sleep 0.05; done; echo undisturbed")
	until(t, c, "the command runs", func() bool { return c.exists("/run/begun") })
	kept := token.FindStringSubmatch(c.do(t, "locker", "lock", "--reason", "kept", "/srv/share/g"))[1]
	waits := c.start(t, "locker", "run", "-w", "10m", "/srv/share/f", "--", "echo", "my turn")
	until(t, c, "somebody waits", func() bool { return strings.Contains(c.do(t, "locker", "list", "--all"), "waits 1") })
	probers := []*running{c.start(t, "never", "/srv/share/f", "/run/enough"), c.start(t, "never", "/srv/share/g", "/run/enough")}

	mine, next := regexp.MustCompile(`(?m)/srv/share/f +held .* backup$`), regexp.MustCompile(`/srv/share/f +waits 1 `)
	detached := regexp.MustCompile(`(?m)/srv/share/g +held .* ` + kept + ` .* kept$`)
	const broker, keeper = "lockerd.service", "lockerd-keeper.service"
	kill := func(unit string) []string { return []string{"systemctl", "kill", "--signal=KILL", unit} }
	for _, what := range []struct {
		name           string
		argv           []string
		broker, keeper bool // which of the processes is another one afterwards
	}{
		{"the broker is killed", kill(broker), true, false},
		{"the keeper is killed", kill(keeper), false, true},
		{"the broker is restarted", []string{"systemctl", "restart", broker}, true, false},
		{"the keeper is restarted", []string{"systemctl", "restart", keeper}, false, true},
		{"PID 1 is executed anew", []string{"systemctl", "daemon-reexec"}, false, false},
		{"the units are read anew", []string{"systemctl", "daemon-reload"}, false, false},
		{"the policy is read anew", []string{"systemctl", "reload", broker}, false, false},
		{"the broker is killed again", kill(broker), true, false},
		{"the keeper is killed again", kill(keeper), false, true},
		{"the keeper is restarted, and at once the broker", []string{"sh", "-c", "systemctl restart " + keeper + " && systemctl restart " + broker}, true, true},
		{"the broker is restarted, and at once the keeper", []string{"sh", "-c", "systemctl restart " + broker + " && systemctl restart " + keeper}, true, true},
		{"the keeper is killed, and at once the broker restarted", []string{"sh", "-c", "systemctl kill --signal=KILL " + keeper + "; systemctl restart " + broker}, true, true},
		{"both are restarted by one command", []string{"systemctl", "restart", broker, keeper}, true, true},
		{"both are restarted by one command, the other way round", []string{"systemctl", "restart", keeper, broker}, true, true},
		{"the broker is killed, and at once the keeper restarted", []string{"sh", "-c", "systemctl kill --signal=KILL " + broker + "; systemctl restart " + keeper}, true, true},
		{"the broker is terminated", []string{"systemctl", "kill", "--signal=TERM", "--kill-who=main", broker}, true, false},
	} {
		before := [2]int{c.mainPID(t, broker), c.mainPID(t, keeper)}
		began := time.Now()
		c.do(t, what.argv...)
		until(t, c, what.name, func() bool {
			now := [2]int{c.mainPID(t, broker), c.mainPID(t, keeper)}
			return now[0] != 0 && now[1] != 0 && (now[0] != before[0]) == what.broker && (now[1] != before[1]) == what.keeper
		})
		list := ""
		whole := func() bool { // at first clients may have not come back yet, which the list says
			list = c.do(t, "locker", "list", "--all") // waits for a broker that is being started
			return mine.MatchString(list) && next.MatchString(list) && detached.MatchString(list)
		}
		if !eventually(whole) {
			t.Fatalf("after %q the list is\n%s\n%s", what.name, list, c.journal())
		}
		t.Logf("%s: everything is there after %v", what.name, time.Since(began).Round(time.Millisecond))
		// Grants go on.
		c.do(t, "locker", "run", "-w", "30s", "/srv/share/h", "--", "true")
		for _, r := range append(probers, held, waits) {
			if !r.goes() {
				text, code := r.wait(t)
				t.Fatalf("after %q, %v has ended with %d:\n%s\n%s", what.name, r.cmd.Args[4:], code, text, c.journal())
			}
		}
	}

	c.write(t, "/run/enough", "", 0o644)
	for _, p := range probers {
		if text, code := p.wait(t); code != 0 {
			t.Errorf("%s", text)
		} else {
			t.Logf("%s: tried %s times", p.cmd.Args[5], strings.TrimSpace(text))
		}
	}
	c.write(t, "/run/over", "", 0o644) // not before nobody tries any more
	if text, code := held.wait(t); text != "undisturbed\n" || code != 0 {
		t.Errorf("the command that held the lock: %d, %q", code, text)
	}
	if text, code := waits.wait(t); !strings.HasSuffix(text, "my turn\n") || code != 0 {
		t.Errorf("the command that waited: %d, %q", code, text)
	}
	c.do(t, "locker", "unlock", "--all")
	c.do(t, "locker", "audit", "verify")
}

// Stopping is the one thing that lets go: of everything, and in order.
func TestStoppingTheServicesLetsGoOfEverything(t *testing.T) {
	h := newHouse(t)
	c := installation(t, h)
	held := c.start(t, "locker", "run", "/srv/share/f", "--", "sh", "-c",
		"trap 'echo told; exit 9' TERM; touch /run/begun; while :; do sleep 0.05; done")
	until(t, c, "the command runs", func() bool { return c.exists("/run/begun") })
	c.do(t, "locker", "lock", "/srv/share/g")
	c.do(t, "systemctl", "stop", "lockerd.socket", "lockerd.service")
	text, _ := held.wait(t)
	if !strings.Contains(text, "told\n") || !strings.Contains(text, "lockerd is stopping") {
		t.Errorf("who held the lock was told %q\n%s", text, c.journal())
	}
	for _, name := range []string{"f", "g"} {
		for _, kind := range []string{"flock", "ofd"} {
			c.do(t, "try", kind, "/srv/share/"+name)
		}
	}
	for _, unit := range []string{"lockerd.socket", "lockerd.service", "lockerd-keeper.service", "lockerd-guard.service"} {
		until(t, c, unit+" is inactive", func() bool { // those that only go with another are not waited for
			out, _ := c.command("systemctl", "is-active", unit).Output()
			return strings.TrimSpace(string(out)) == "inactive"
		})
	}
	if verify := c.do(t, "locker", "audit", "verify"); !strings.Contains(verify, "1 holds, lockerd stopped cleanly") {
		t.Error(verify)
	}
	// And the next start takes back what was to stay, also where the keeper has run on meanwhile.
	c.do(t, "systemctl", "start", "lockerd.socket", "lockerd.service")
	stays := func() {
		t.Helper()
		if list := c.do(t, "locker", "list"); !strings.Contains(list, "/srv/share/g") || strings.Contains(list, "/srv/share/f") {
			t.Error(list)
		}
	}
	stays()
	broker, keeper := c.mainPID(t, "lockerd.service"), c.mainPID(t, "lockerd-keeper.service")
	c.do(t, "systemctl", "kill", "--signal=INT", "--kill-who=main", "lockerd.service")
	until(t, c, "another broker runs", func() bool { now := c.mainPID(t, "lockerd.service"); return now != 0 && now != broker })
	stays()
	if now := c.mainPID(t, "lockerd-keeper.service"); now != keeper {
		t.Errorf("the keeper was %d and is %d", keeper, now)
	}
}

// The units let the broker do what it is for.
func TestServicesUnderSystemdCanDoTheirWork(t *testing.T) {
	h := newHouse(t)
	c := installation(t, h)
	// Another user's file, in a directory that only he may enter, has both locks.
	c.do(t, "chown", "-R", strconv.Itoa(h.alice), "/srv/share")
	c.do(t, "chmod", "700", "/srv/share")
	if out := c.do(t, "locker", "lock", "/srv/share/f"); !strings.Contains(out, "rests=ofd,flock") {
		t.Error(out)
	}
	c.do(t, "locker", "unlock", "/srv/share/f")
	// Who outside has a lock is named, whoever he is and whichever lock it is.
	alice := strconv.Itoa(h.alice)
	for _, kind := range []string{"flock", "ofd", "posix"} {
		for _, who := range []string{"0", alice} {
			ready := "/run/ready-" + kind + who
			c.write(t, ready, "", 0o666)
			c.do(t, "rm", ready)
			c.do(t, "chmod", "1777", "/run")
			holds := c.start(t, "sh", "-c", `echo $$ > /run/pid; exec "$@"`, "sh", "asuser", who, who, "hold", kind, "/srv/share/g", ready)
			until(t, c, kind+" is held", func() bool { return c.exists(ready) })
			out, err := c.command("locker", "lock", "-n", "/srv/share/g").CombinedOutput()
			if err == nil || !regexp.MustCompile(`is held by hold \(pid [0-9]+, user `).Match(out) {
				t.Errorf("with %s of uid %s: %v, %s", kind, who, err, out)
			}
			c.do(t, "sh", "-c", "kill $(cat /run/pid)")
			holds.wait(t)
		}
	}
	c.do(t, "chmod", "755", "/run")
	// The log is for adm to read, and the rest is nobody's.
	if out := c.do(t, "sh", "-c", "cd /var/lib/locker; stat -c '%U %G %a' . audit audit/seg-* | uniq"); out != "locker adm 755\nlocker adm 750\nlocker adm 640" {
		t.Error(out)
	}
	// The keeper is the broker's, and of no use to anybody else.
	if out := c.do(t, "stat", "-c", "%U %a", "/run/lockerd-keeper", "/run/lockerd-keeper/keeper.sock"); out != "locker 700\nlocker 600" {
		t.Error(out)
	}
	status := c.do(t, "locker", "status", "--json")
	for name, unit := range map[string]string{"broker_pid": "lockerd.service", "keeper_pid": "lockerd-keeper.service"} {
		if want := `"` + name + `":` + strconv.Itoa(c.mainPID(t, unit)) + `[,}]`; !regexp.MustCompile(want).MatchString(status) {
			t.Errorf("%s is not in %s", want, status)
		}
	}
	if out := c.do(t, "journalctl", "--no-pager", "-u", "lockerd*", "-p", "warning", "-o", "cat"); strings.Contains(out, "WARN") || strings.Contains(out, "ERROR") {
		t.Error(out)
	}
}

func TestUnitsAreHardened(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("LOCKER_TEST_ALL") != "" {
			t.Fatal("LOCKER_TEST_ALL is set, and this test needs systemd-analyze (Debian: systemd)")
		}
		t.Skip("needs systemd-analyze (Debian: systemd)")
	}
	exposure := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for unit, most := range map[string]float64{"lockerd.service": 1.5, "lockerd-keeper.service": 1.0, "lockerd-guard.service": 2.0} {
		out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", filepath.Join("etc", unit)).CombinedOutput()
		found := exposure.FindSubmatch(out)
		if err != nil || found == nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
			continue
		}
		got, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil || got > most || strings.Contains(string(out), "Failed to") {
			t.Errorf("%s: exposure %s, want %.1f at most\n%s", unit, found[1], most, out)
		}
	}
}

// until waits for something in the container.
func until(t *testing.T, c *container, what string, is func() bool) {
	t.Helper()
	if !eventually(is) {
		t.Fatalf("not within %v: %s\n%s", patience, what, c.journal())
	}
}
