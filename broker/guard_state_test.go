package broker

import (
	"testing"

	"locker/wire"
)

func TestWithoutADenyInThePolicyTheGuardIsOffForAnybodyWhoAsks(t *testing.T) {
	p := newRig(t, nil).dial4()
	if m, ok := p.answer(p.send(&wire.Guard{})).(*wire.GuardReply); !ok || m.State != wire.GuardOff || len(m.Programs) != 0 {
		t.Errorf("got %+v", m)
	}
}
