package wire

// Hello is the first frame of a connection: the protocol versions that the client speaks, from Min to Max.
type Hello struct{ Min, Max uint8 }

// Type gives TypeHello.
func (m *Hello) Type() Type { return TypeHello }

func (m *Hello) append(e *encoder) {
	if m.Min == 0 {
		e.fail("min", ErrValue)
	}
	e.u8(m.Min)
	e.u8(m.Max)
	e.must("max", m.Min <= m.Max)
}

func parseHello(d *decoder) *Hello {
	m := &Hello{Min: d.u8("min"), Max: d.u8("max")}
	if m.Min == 0 {
		d.fail("min", ErrValue)
	}
	d.must("max", m.Min <= m.Max)
	return m
}

// Welcome answers Hello: the version that both speak from now on, and the server's limits.
type Welcome struct {
	Version uint8
	Server  string // what the server calls itself, for people
	Session uint64 // number of this session, as in the audit log; what Resume names

	MaxFrame, MaxPaths, MaxPath, MaxReason, MaxTag uint32
}

// Type gives TypeWelcome.
func (m *Welcome) Type() Type { return TypeWelcome }

func (m *Welcome) append(e *encoder) {
	if m.Version == 0 {
		e.fail("version", ErrValue)
	}
	e.u8(m.Version)
	e.str("server", m.Server, MaxText)
	e.u64(m.Session)
	e.u32(m.MaxFrame)
	e.u32(m.MaxPaths)
	e.u32(m.MaxPath)
	e.u32(m.MaxReason)
	e.u32(m.MaxTag)
}

func parseWelcome(d *decoder) *Welcome {
	m := &Welcome{
		Version: d.u8("version"), Server: d.str("server", MaxText), Session: d.u64("session"),
		MaxFrame: d.u32("max_frame"), MaxPaths: d.u32("max_paths"), MaxPath: d.u32("max_path"),
		MaxReason: d.u32("max_reason"), MaxTag: d.u32("max_tag"),
	}
	if m.Version == 0 {
		d.fail("version", ErrValue)
	}
	return m
}
