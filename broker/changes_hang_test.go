package broker

import (
	"testing"
	"time"

	"locker/audit"
)

// A disk that hangs keeps the path of a held file from being walked.
func TestALockerdThatHangsAtAFileThatIsToBeWatchedHandsOver(t *testing.T) {
	arrived, goOn := make(chan struct{}, 1), make(chan struct{})
	r, s := withKeeper(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) {
			c.beforeWatch = func() {
				arrived <- struct{}{}
				<-goOn
			}
		}
	})
	r.dial2().granted(detached(r.file("a")))
	<-arrived
	r.b.HandOver()
	r.stop()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Error(err)
		}
		must(t, r.b.changes.kernel.Close()) // so that it watches nothing any more
		close(goOn)
	case <-time.After(patience):
		t.Error("it waits for the file")
		close(goOn)
		<-r.ended
	}
	r.stop = nil
	s.forget(r.b)
	must(t, r.log.Close())
}
