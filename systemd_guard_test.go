package locker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"locker/guard"
)

// guardedby SOCKET PROGRAM DIR: what a broker does: have the guard keep PROGRAM from what lies in DIR, until it is gone.
func guardedBy(args []string) error {
	ctx := context.Background()
	c, err := guard.Dial(ctx, args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	dir, err := os.Open(args[2])
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := errors.Join(c.Deny(ctx, []string{args[1]}), c.Guard(ctx, 1, []int{int(dir.Fd())})); err != nil {
		return err
	}
	fmt.Println("guarded")
	if err := os.WriteFile("/run/guarded", nil, 0o644); err != nil {
		return err
	}
	<-c.Gone()
	fmt.Println("gone")
	return nil
}

// The guard's service keeps a program out for a broker, which is another user; when it is killed everybody passes, it comes back, and no
// lock knows of it.
func TestTheGuardUnderSystemdComesBackAndNoLockIsLost(t *testing.T) {
	h := newHouse(t)
	c := installation(t, h)
	const unit, dir = "lockerd-guard.service", "/srv/share"
	c.put(t, h.bin+"/guardedby", "/usr/local/bin/guardedby", 0o755)
	c.do(t, "cp", "/bin/cat", "/usr/local/bin/denied")
	kept := regexp.MustCompile(`token=([0-9]+)`).FindStringSubmatch(c.do(t, "locker", "lock", "--reason", "kept", dir+"/g"))[1]
	serves := func() bool { return c.mainPID(t, unit) != 0 && c.exists("/run/lockerd-guard/guard.sock") }
	until(t, c, "the guard runs", serves)
	if caps := c.do(t, "grep", "CapEff", fmt.Sprintf("/proc/%d/status", c.mainPID(t, unit))); !strings.HasSuffix(caps, "\t0000000000280004") {
		t.Errorf("it has the capabilities %s, want SYS_ADMIN, SYS_PTRACE and DAC_READ_SEARCH", caps)
	}
	if strings.Contains(c.journal(), "nobody can be kept from held bundles") {
		t.Fatal(c.journal())
	}
	// As lockerd.service runs its broker.
	asBroker := []string{"setpriv", "--reuid=locker", "--regid=adm", "--clear-groups",
		"--inh-caps=-all,+dac_override,+dac_read_search", "--ambient-caps=-all,+dac_override,+dac_read_search", "--bounding-set=-all,+dac_override,+dac_read_search"}
	for i := range 3 {
		guarded := c.start(t, append(asBroker, "guardedby", "/run/lockerd-guard/guard.sock", "/usr/local/bin/denied", dir)...)
		until(t, c, "the guard guards", func() bool {
			if !guarded.goes() {
				text, code := guarded.wait(t)
				t.Fatalf("the guard does not: %d, %s\n%s", code, text, c.journal())
			}
			return c.exists("/run/guarded")
		})
		if out, err := c.command("denied", dir+"/g").CombinedOutput(); err == nil || !strings.Contains(string(out), "Operation not permitted") {
			t.Errorf("time %d: who is denied got %v, %q", i, err, out)
		}
		c.do(t, "cat", dir+"/g")
		before := c.mainPID(t, unit)
		c.do(t, "systemctl", "kill", "--signal=KILL", unit)
		if text, code := guarded.wait(t); text != "guarded\ngone\n" || code != 0 {
			t.Errorf("time %d: its broker: %d, %q", i, code, text)
		}
		c.do(t, "denied", dir+"/g")
		c.do(t, "rm", "/run/guarded")
		until(t, c, "another guard runs", func() bool { return c.mainPID(t, unit) != before && serves() })
		if list := c.do(t, "locker", "list"); !regexp.MustCompile(dir + `/g +held .* ` + kept + ` .* kept`).MatchString(list) {
			t.Errorf("time %d: the lock is not what it was:\n%s", i, list)
		}
	}
	// Nobody else is served, whatever he may open.
	stranger := c.start(t, "setpriv", "--reuid=54321", "--regid=54321", "--clear-groups",
		"--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override", "guardedby", "/run/lockerd-guard/guard.sock", "/usr/local/bin/denied", "/run")
	if text, code := stranger.wait(t); code == 0 || !strings.Contains(text, guard.ErrGone.Error()) {
		t.Errorf("a stranger got %d, %q", code, text)
	}
	c.do(t, "locker", "unlock", "--all")
	c.do(t, "locker", "audit", "verify")
}
