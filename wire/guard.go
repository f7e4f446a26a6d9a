package wire

// Guard asks whether opens by file servers are refused while their files are held. Of version 4.
type Guard struct{}

// Type gives TypeGuard.
func (m *Guard) Type() Type { return TypeGuard }

// GuardReply answers Guard. Of version 4.
type GuardReply struct {
	State    GuardState
	Programs []string // whom the policy denies, by their paths; none where the state is GuardOff
}

// Type gives TypeGuardReply.
func (m *GuardReply) Type() Type { return TypeGuardReply }

func (m *GuardReply) append(e *encoder) {
	e.enum("state", uint8(m.State), uint8(endGuardState))
	e.names("programs", m.Programs, MaxPrograms, MaxPath)
	e.must("programs", m.fits())
}

func parseGuardReply(d *decoder) *GuardReply {
	m := &GuardReply{State: GuardState(d.enum("state", uint8(endGuardState))), Programs: d.names("programs", nil, MaxPrograms, MaxPath)}
	d.must("programs", m.fits())
	return m
}

// fits: somebody is denied, or the guard is off.
func (m *GuardReply) fits() bool { return (m.State == GuardOff) == (len(m.Programs) == 0) }
