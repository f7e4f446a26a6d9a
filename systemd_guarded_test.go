package locker_test

import (
	"regexp"
	"strings"
	"testing"
)

// With the units as they are installed: a bundle that is held is kept from who is denied, again so after the guard was killed, and after the
// broker was.
func TestUnderSystemdTheGuardKeepsWhoIsDeniedFromHeldBundles(t *testing.T) {
	h := newHouse(t)
	c := installation(t, h)
	const bundle, guardUnit = "/srv/share/m.sparsebundle", "lockerd-guard.service"
	c.do(t, "cp", "/bin/cat", "/usr/local/bin/denied")
	c.do(t, "ln", "-s", "/usr/local/bin/denied", "/usr/local/bin/alias")
	for _, name := range []string{"/token", "/Info.plist", "/bands/0"} {
		c.write(t, bundle+name, "x", 0o644)
	}
	policy := c.do(t, "cat", "/etc/locker/locker.toml")
	c.write(t, "/etc/locker/locker.toml", strings.Replace(policy, "[[rule]]", "[guard]\ndeny = [\"/usr/local/bin/alias\"]\n\n[[rule]]", 1), 0o600)
	c.do(t, "locker", "reload")
	on := func() bool {
		return strings.Contains(c.do(t, "locker", "status"), "on: held bundles are kept from /usr/local/bin/denied")
	}
	until(t, c, "the guard is on", on)
	if out := c.do(t, "locker", "lock", bundle); !strings.Contains(out, "guard") {
		t.Fatalf("it rests on no guard: %s\n%s", out, c.journal())
	}
	for _, what := range []struct {
		name string
		argv []string
	}{
		{"it is held", []string{"true"}},
		{"the guard is killed", []string{"systemctl", "kill", "--signal=KILL", guardUnit}},
		{"the broker is killed", []string{"systemctl", "kill", "--signal=KILL", "lockerd.service"}},
		{"the guard is restarted", []string{"systemctl", "restart", guardUnit}},
	} {
		c.do(t, what.argv...)
		rests := func() bool {
			return on() && regexp.MustCompile(bundle+` +held .*,guard`).MatchString(c.do(t, "locker", "list"))
		}
		until(t, c, what.name+": it rests on the guard", rests)
		for _, name := range []string{"/token", "/bands/0"} {
			var out []byte
			var err error
			// By one guard: one that gets no processor for a second ends itself.
			until(t, c, what.name+": one guard guards all the while", func() bool {
				before := c.mainPID(t, guardUnit)
				if !rests() {
					return false
				}
				out, err = c.command("denied", bundle+name).CombinedOutput()
				return before != 0 && c.mainPID(t, guardUnit) == before
			})
			if err == nil || !strings.Contains(string(out), "Operation not permitted") {
				t.Errorf("%s: who is denied got %v, %q", what.name, err, out)
			}
			c.do(t, "cat", bundle+name)
		}
	}
	c.do(t, "locker", "unlock", bundle)
	c.do(t, "denied", bundle+"/token")
	c.do(t, "locker", "audit", "verify")
}
