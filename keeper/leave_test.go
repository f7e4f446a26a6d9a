package keeper

import (
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
			wantList(t, r.dial(), filled(0, 100)...)
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
	wantList(t, r.dial(), filled(0, 10)...)
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
}
