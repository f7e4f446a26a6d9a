package broker

import (
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
