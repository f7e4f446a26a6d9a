package broker

import (
	"context"
	"testing"
	"time"
)

// What works for a uid may outlive its last connection. The account lives until the last of that has been given back, and not until
// somebody else disconnects, which may be never.
func TestAnAccountGoesWithTheLastOfItsWork(t *testing.T) {
	r := newRig(t, nil)
	b := r.b
	known := func(a *account) bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.accounts[a.uid] == a
	}
	fresh := func(connections int) *account {
		a := newAccount(65533, b.limits()) // not root, which has slots of its own alone
		b.mu.Lock()
		defer b.mu.Unlock()
		a.connections = connections
		b.accounts[a.uid] = a
		return a
	}
	work := map[string]struct {
		enter func(context.Context, *account) bool
		leave func(*account)
		all   *slots // of everybody, which are taken behind the uid's own
	}{
		"an open": {
			func(ctx context.Context, a *account) bool { return a.enterOpen(ctx, b) },
			func(a *account) { a.leaveOpen(b) }, &b.gates.opens,
		},
		"what may hang": {
			func(ctx context.Context, a *account) bool { return a.enterSlow(ctx, b) },
			func(a *account) { a.leaveSlow(b) }, &b.gates.slow,
		},
		"a look": {
			func(ctx context.Context, a *account) bool { return b.enterLook(ctx, a, time.Minute) },
			func(a *account) { b.leaveLook(a) }, &b.gates.looks,
		},
		"a list": {
			func(ctx context.Context, a *account) bool { return a.enterList(ctx, b) },
			func(a *account) { a.leaveList(b) }, nil,
		},
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, w := range work {
		t.Run(name, func(t *testing.T) {
			a := fresh(1)
			if !w.enter(t.Context(), a) {
				t.Fatal("no slot")
			}
			w.leave(a)
			if !known(a) {
				t.Error("forgotten while it is connected")
			}
			w.enter(t.Context(), a)
			w.enter(t.Context(), a)
			b.mu.Lock()
			a.connections--
			b.forgetIdle(a)
			b.mu.Unlock()
			w.leave(a)
			if !known(a) {
				t.Error("forgotten before the last of its work has ended")
			}
			w.leave(a)
			if known(a) {
				t.Error("not forgotten with the last of its work")
			}
			if w.all == nil {
				return
			}
			a = fresh(0) // counted as it had the first slot, and waited for the second
			a.parted.Store(true)
			defer w.all.set(w.all.limit)
			w.all.set(0)
			if w.enter(over, a) {
				t.Fatal("there was a slot")
			}
			if known(a) {
				t.Error("not forgotten by who got no slot")
			}
		})
	}
}
