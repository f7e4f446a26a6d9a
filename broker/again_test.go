package broker

import (
	"io"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"

	"locker/audit"
)

// heeds calls a function with each message that is logged, before whoever logs it goes on.
type heeds struct{ said func(msg string) }

func (h *heeds) Accept(_ string, _ hclog.Level, msg string, _ ...any) { h.said(msg) }

// heed has a broker that starts later call said with each message that it logs.
func heed(c *Config, said func(msg string)) {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Debug})
	logger.RegisterSink(&heeds{said})
	c.Logger = logger
}

// Whoever may open a file can lock it for a moment, again and again: at the start, too.
func TestAnOutsiderWhoHasAFileForAMomentDoesNotTakeItAtTheStart(t *testing.T) {
	busy := map[string]func(path string) (done func()){
		"flock": func(path string) func() {
			f := outsideLock(t, path)
			return func() { f.Close() }
		},
		"lease": func(path string) func() { // opening is what is refused then
			return startChild(t, "lease", path).end
		},
	}
	for how, begin := range busy {
		t.Run(how, func(t *testing.T) {
			r, s := withKeeper(t, nil)
			p := r.dial2()
			at, de := p.granted(attached(r.file("a"), r.file("b"))), p.granted(detached(r.file("c")))
			never := p.granted(detached(r.file("d")))
			s.crash()
			s.end()
			keeps := outsideLock(t, r.files+"/d") // whose file is tried as often, and does not take the others' time
			defer keeps.Close()
			var done []func()
			for _, name := range []string{"a", "b", "c"} {
				done = append(done, begin(r.files+"/"+name))
			}
			tries := 0
			s.tweak = func(c *Config) {
				heed(c, func(msg string) {
					if msg != triedAgain {
						return
					}
					tries++
					if tries <= len(done) { // one after the other, between two tries
						done[tries-1]()
					}
				})
			}
			s.start()
			s.back()
			if tries < len(done) {
				t.Errorf("tried again %d times", tries)
			}
			if ids := p.resumed(r); !slices.Equal(ids, sortedIDs(at[0].ID, at[1].ID)) {
				t.Errorf("resumed with %v, want %v", ids, at)
			}
			var back []uint64
			for _, rec := range r.records(audit.EventResume) {
				if rec.Gap > 0 {
					back = append(back, rec.ID)
				}
			}
			if slices.Sort(back); !slices.Equal(back, sortedIDs(at[0].ID, at[1].ID, de[0].ID)) {
				t.Errorf("claimed again %v, want %v and %v", back, at, de)
			}
			if lost := r.records(audit.EventLost); len(lost) != 1 || lost[0].ID != never[0].ID {
				t.Errorf("lost: %+v", lost)
			}
		})
	}
}
