package broker

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

func TestAReloadSaysWhetherItTookARestartAndBeginsItAfterTheAnswer(t *testing.T) {
	for _, c := range []struct {
		name            string
		left            []string
		can             bool
		want            string
		restarts, bySIG int32
	}{
		{"nothing is left", nil, true, "in force, without a restart", 0, 0},
		{"something is", []string{"segment_size", "socket_mode"}, true, "being started again, which loses no lock, for: segment_size; socket_mode", 1, 2},
		{"something is, and nobody would start us", []string{"segment_size"}, false, "needs a restart of lockerd: segment_size", 0, 0},
	} {
		var restarts atomic.Int32
		var policies changing
		r := newRig(t, func(r *rig) {
			policies.drive(policyFor("", "/a"))(r)
			before := r.alter
			r.alter = func(l *audit.Config, config *Config) {
				if before != nil {
					before(l, config)
				}
				config.NeedsRestart = func(*authz.Policy) []string { return c.left }
				if c.can {
					config.Restart = func() { restarts.Add(1) }
				}
			}
		})
		p := r.dial()
		answer, ok := p.answer(p.send(&wire.Reload{})).(*wire.Reloaded)
		if !ok || !strings.HasSuffix(answer.Lines[len(answer.Lines)-1], c.want) {
			t.Errorf("%s: %+v, want %q at the end", c.name, answer, c.want)
		}
		p.answer(p.send(&wire.Status{})) // the session's goroutine is past the restart
		if n := restarts.Load(); n != c.restarts {
			t.Errorf("%s: restarted %d times", c.name, n)
		}
		lines, err := r.b.Reload(t.Context())
		if err != nil || !strings.HasSuffix(lines[len(lines)-1], c.want) || restarts.Load() != c.bySIG {
			t.Errorf("%s: by signal %q %v, and %d restarts", c.name, lines, err, restarts.Load())
		}
		r.halt()
	}
}

// Whose client is away, his groups are not known, nor a path that did not fit beside his place: the policy is asked when he comes.
func TestAReloadTakesNoPlaceFromWhoHasNotComeBackYet(t *testing.T) {
	needRoot(t, "a user with a group")
	const group = 64321
	long := "/" + strings.Repeat("d", 200)
	for what, dir := range map[string]string{"by a group": "", "under a long name": long + long} {
		r, s := withKeeper(t, func(r *rig) {
			r.policy = rules(r.files, "allow = [\"FILES\"]\n[[rule]]\nname = \"group\"\ngroups = [64321]\npaths = [\"FILES\"]\ncan = [\"lock\"]\n")
		})
		must(t, os.MkdirAll(r.files+dir, 0o755))
		path := r.file(dir + "/a")
		connect := func() *peer {
			p := r.dialMuteAs(alice, group)
			p.session = p.answer(p.send(&wire.Hello{Min: 2, Max: 2})).(*wire.Welcome).Session
			return p
		}
		p, q := r.dial2(), connect()
		g := p.granted(attached(path))
		ask := attached(path)
		id := q.send(ask)
		q.queued(id)
		s.crash()
		s.back()
		if _, err := r.b.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := r.dial2()
		n := next.send(attached(path))
		if got := next.queued(n); got.Position != 2 {
			t.Errorf("%s: a newcomer's place is %d", what, got.Position)
		}
		p.resumed(r)
		p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		back := connect()
		if m, ok := back.answer(back.send(&wire.Resume{Session: q.session})).(*wire.Resumed); !ok {
			t.Fatalf("%+v", m)
		}
		back.repeat(id, ask)
		grants(t, back.answer(id))
		r.halt()
	}
}

func TestAReloadSaysThatNeitherSocketNorStateDirectoryMoves(t *testing.T) {
	var policies changing
	r := newRig(t, policies.drive(policyFor("", "/a")))
	const stay = "stay where they are until lockerd is stopped and started"
	for _, c := range []struct {
		settings string
		stay     bool
	}{
		{"[server]\nsocket = \"/run/other\"\n", true},
		{"[server]\nsocket = \"/run/other\"\n", true}, // still
		{"", false},
		{"[server]\nstate_dir = \"/var/lib/other\"\n", true},
	} {
		lines, err := policies.to(r, policyFor(c.settings, "/a"))
		must(t, err)
		if got := strings.HasSuffix(lines[len(lines)-1], stay); got != c.stay {
			t.Errorf("%q for %q", lines, c.settings)
		}
	}
}
