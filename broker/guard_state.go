package broker

import "locker/wire"

// guardState says how it is about the guard, and which programs the policy in force denies: none with GuardOff, else at least one. The
// caller does not hold mu.
func (b *Broker) guardState() (wire.GuardState, []string) { return wire.GuardOff, nil }

// guardStatus answers who is kept from held bundles. That is nobody's secret: who may ask at all may know what a lock is worth.
func (b *Broker) guardStatus(s *session, id uint32) {
	state, programs := b.guardState()
	s.send(id, &wire.GuardReply{State: state, Programs: programs})
}
