package broker

import (
	"testing"

	"locker/wire"
)

// dial4 connects as a client that knows how to ask after the guard.
func (r *rig) dial4() *peer {
	r.t.Helper()
	p := r.dialMute()
	w, ok := p.answer(p.send(&wire.Hello{Min: 1, Max: 4})).(*wire.Welcome)
	if !ok || w.Version != 4 {
		r.t.Fatalf("no Welcome of version 4: %+v", w)
	}
	p.session = w.Session
	return p
}

func TestWithoutADenyInThePolicyTheGuardIsOffForAnybodyWhoAsks(t *testing.T) {
	p := newRig(t, nil).dial4()
	if m, ok := p.answer(p.send(&wire.Guard{})).(*wire.GuardReply); !ok || m.State != wire.GuardOff || len(m.Programs) != 0 {
		t.Errorf("got %+v", m)
	}
}
