package locker_test

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The broken programs of TestABrokenProgramIsTriedAgainUntilABetterOneIsInstalled.
var brokenPrograms = []struct {
	name, text string
	silent     bool // it runs, and does not serve
}{
	{"it exits", "#!/bin/sh\necho no libc >&2\nexit 3\n", false},
	{"it is cut", "\x7fELF", false},
	{"it never says that it is ready", "#!/bin/sh\nexec sleep infinity\n", true},
}

// While the broker that was installed cannot run, the keeper holds on; nobody gets in, and nobody who holds something notices.
func TestABrokenProgramIsTriedAgainUntilABetterOneIsInstalled(t *testing.T) {
	h := newHouse(t)
	c := installation(t, h)
	const broker, keeper, program = "lockerd.service", "lockerd-keeper.service", "/usr/local/bin/lockerd"
	held := c.start(t, "locker", "run", "--reason", "backup", "/srv/share/f", "--", "sh", "-c",
		"trap 'echo disturbed; exit 9' TERM; touch /run/begun; until [ -e /run/over ]; do sleep 0.05; done; echo undisturbed")
	until(t, c, "the command runs", func() bool { return c.exists("/run/begun") })
	kept := regexp.MustCompile(`token=([0-9]+)`).FindStringSubmatch(c.do(t, "locker", "lock", "--reason", "kept", "/srv/share/g"))[1]
	probers := []*running{c.start(t, "never", "/srv/share/f", "/run/enough"), c.start(t, "never", "/srv/share/g", "/run/enough")}
	keeps := c.mainPID(t, keeper)
	// By rename, as package managers do: the file of a running program cannot be written.
	install := func() { c.do(t, "mv", program+".new", program) }
	serves := func() bool {
		out, err := c.command("locker", "list", "--all").CombinedOutput()
		return err == nil && regexp.MustCompile(`(?m)/srv/share/f +held .* backup$`).Match(out) && regexp.MustCompile(`(?m)/srv/share/g +held .* `+kept+` .* kept$`).Match(out)
	}

	for i, broken := range brokenPrograms {
		before := c.mainPID(t, broker)
		c.write(t, program+".new", broken.text, 0o755)
		install()
		c.do(t, "systemctl", "reset-failed", broker) // NRestarts is 0
		c.do(t, "systemctl", "restart", "--no-block", broker)
		until(t, c, broken.name+": it is tried again", func() bool {
			now := c.do(t, "systemctl", "show", "--property=NRestarts,SubState,MainPID", broker)
			restarts, _ := strconv.Atoi(property(now, "NRestarts"))
			waits := property(now, "SubState") == "start" && property(now, "MainPID") != strconv.Itoa(before) // for READY
			return restarts >= 3 || broken.silent && waits
		})
		if now := c.mainPID(t, keeper); now != keeps {
			t.Fatalf("%s: the keeper was %d and is %d\n%s", broken.name, keeps, now, c.journal())
		}
		for _, r := range append(probers, held) {
			if !r.goes() {
				text, code := r.wait(t)
				t.Fatalf("%s: %v has ended with %d:\n%s\n%s", broken.name, r.cmd.Args[4:], code, text, c.journal())
			}
		}
		good := []string{"lockerd-newer", "lockerd"}[i%2] // up and down
		c.put(t, filepath.Join(h.bin, good), program+".new", 0o755)
		install()
		if broken.silent {
			c.do(t, "systemctl", "restart", broker) // else it has its 90 seconds
		}
		until(t, c, broken.name+": the better one serves", serves)
		if newer := strings.Contains(c.do(t, "locker", "status", "--json"), `"server":"`+newerVersion+`"`); newer != (good == "lockerd-newer") {
			t.Errorf("%s: %s was installed, and what serves is newer: %v", broken.name, good, newer)
		}
	}

	c.write(t, "/run/enough", "", 0o644)
	for _, p := range probers {
		if text, code := p.wait(t); code != 0 {
			t.Errorf("%s", text)
		}
	}
	c.write(t, "/run/over", "", 0o644) // not before nobody tries any more
	if text, code := held.wait(t); text != "undisturbed\n" || code != 0 {
		t.Errorf("the command that held the lock: %d, %q", code, text)
	}
	c.do(t, "locker", "unlock", "--all")
	c.do(t, "locker", "audit", "verify")
}

// property finds a value in what 'systemctl show' says.
func property(show, name string) string {
	for line := range strings.Lines(show) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+"="); ok {
			return value
		}
	}
	return ""
}
