package broker

import "locker/wire"

// guardState says how it is about the guard, and which programs the policy in force denies: none with GuardOff, else at least one. The
// caller does not hold mu.
func (b *Broker) guardState() (wire.GuardState, []string) {
	programs := b.rules.Load().policy.Guard
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(programs) == 0:
		return wire.GuardOff, nil
	case b.guarding.conn == nil:
		return wire.GuardDown, programs
	}
	return wire.GuardOn, programs
}

// guardStatus answers who is kept from held bundles. That is nobody's secret: who may ask at all may know what a lock is worth.
func (b *Broker) guardStatus(s *session, id uint32) {
	state, programs := b.guardState()
	s.send(id, &wire.GuardReply{State: state, Programs: programs})
}

// lapse notes that the guard has not guarded a hold all the time since its grant. Whom it refuses may have opened files then, and may have
// them open still, so its return does not undo it; who reads the bundle is to know. The log has it as the guard's own records. The caller
// holds mu.
func (b *Broker) lapse(h *hold) {
	if h.info.changes == nil {
		h.info.changes = &holdChanges{}
	}
	k := h.info.changes
	if k.sum.Lapsed {
		return
	}
	k.sum.ID, k.sum.Lapsed, k.unheard = h.id, true, true
	b.noteAltered(h)
}
