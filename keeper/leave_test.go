package keeper

import (
	"strings"
	"testing"
	"time"
)

const never = 24 * time.Hour // longer than any test

func TestAKeeperThatShallLeaveWaitsForABrokerThatHasEverything(t *testing.T) {
	for _, broker := range []string{"lives", "ends"} {
		t.Run(broker, func(t *testing.T) {
			r := newRig(t).serve()
			c := r.dial()
			fd := file(t, 5)
			for id := range 100 {
				must(t, c.Put(Entry{ID: uint64(id), Blob: []byte("filled"), Lock: fd, Holder: fd}))
			}
			must(t, c.Sync(t.Context())) // who is told this may rely on it, and end
			if broker == "ends" {
				must(t, c.Close())
			}
			r.s.Leave(never)
			<-c.Gone() // so that one that lives comes again
			// That one has listed does not say that it will get so far as to hold what was listed.
			fails := r.dial()
			wantList(t, fails, filled(0, 100)...)
			must(t, fails.Close())
			next := r.dial()
			wantList(t, next, filled(0, 100)...)
			must(t, next.Sync(t.Context()))
			r.served.Wait()
		})
	}
}

// What is in the queue is kept like all else.
func TestAKeeperThatShallLeaveReadsWhatWasSent(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	fd := file(t, 5)
	for id := range 10 {
		must(t, c.Put(Entry{ID: uint64(id), Blob: []byte("filled"), Lock: fd, Holder: fd}))
	}
	must(t, c.Close())
	r.s.Leave(never)
	r.serve()
	c = r.dial()
	wantList(t, c, filled(0, 10)...)
	wantList(t, c, filled(0, 10)...) // twice, from a broker that says that there was not room for all
	r.served.Wait()
}

func TestAKeeperThatKeepsNothingLeavesAtOnce(t *testing.T) {
	for _, when := range []string{"before it serves", "waiting for a broker", "with a broker", "when the last entry goes"} {
		t.Run(when, func(t *testing.T) {
			r := newRig(t)
			switch when {
			case "before it serves":
				r.s.Leave(never)
				r.serve()
			case "waiting for a broker":
				r.serve().s.Leave(never)
			case "with a broker":
				must(t, r.serve().dial().Sync(t.Context()))
				r.s.Leave(never)
			case "when the last entry goes":
				c := r.serve().dial()
				must(t, c.Put(Entry{ID: 1, Lock: file(t, 5), Holder: -1}))
				must(t, c.Sync(t.Context()))
				r.s.Leave(never)
				<-c.Gone()
				c = r.dial()
				c.Drop(1)
				must(t, c.Close())
			}
			r.served.Wait()
		})
	}
}

func TestAKeeperThatShallLeaveDoesNotWaitForEver(t *testing.T) {
	r := newRig(t).serve()
	c := r.dial()
	must(t, c.Put(Entry{ID: 1, Lock: file(t, 5), Holder: -1}))
	must(t, c.Close())
	r.s.Leave(time.Millisecond)
	r.s.Leave(never) // the first counts
	r.served.Wait()
	if w := r.warned(); !strings.Contains(w, "let go") {
		t.Errorf("it warns of %q", w)
	}
}

// After Forget the keeper has nothing, and does not say that what it has not was given up.
func TestWhatIsForgottenIsNotCalledGivenUp(t *testing.T) {
	leaksNothing(t, "forget", func(t *testing.T) {
		r := newRig(t).serve()
		c := r.dial()
		fd := file(t, 5)
		for id := range 100 {
			must(t, c.Put(Entry{ID: uint64(id), Blob: []byte("filled"), Lock: fd, Holder: fd}))
		}
		must(t, c.Sync(t.Context()))
		must(t, c.Forget(t.Context()))
		must(t, c.Close())
		c = r.dial()
		if past := wantList(t, c); past.Complete {
			t.Error("the list is called complete")
		}
		must(t, c.Put(Entry{ID: 1000, Blob: []byte("filled"), Lock: fd, Holder: fd})) // there is room as before
		must(t, c.Sync(t.Context()))
		if past := wantList(t, c, "1000 5 5 filled"); !past.Complete {
			t.Error("after Sync the list is not called complete")
		}
		must(t, c.Close())
		r.stop()
	})
}
