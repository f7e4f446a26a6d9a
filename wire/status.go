package wire

import "time"

// Status asks how the server is.
type Status struct{}

// Type gives TypeStatus.
func (m *Status) Type() Type { return TypeStatus }

// StatusReply answers Status. Counts are of everybody's.
type StatusReply struct {
	Server       string
	BrokerPID    int32
	KeeperPID    int32 // 0: none
	Started      time.Time
	PolicyFile   string // empty: none
	PolicySHA256 string // hex
	PolicyError  string // why the newest file is not in force; empty: it is
	PolicyLoaded time.Time
	Rules        uint32
	Holds        uint32
	Waiters      uint32
	Connections  uint32
	Lost         uint32
	AuditSegment string
	AuditSeq     uint64
	AuditError   string // why no grants are made; empty: they are
	Limits       []Limit
}

// Limit is one limit and how near it the asking uid is.
type Limit struct {
	Name        string
	PerUID, All uint64 // 0: no such limit
	Used        uint64 // by the asking uid
	UsedAll     uint64
}

const limitSize = 2 + 4*8

// Type gives TypeStatusReply.
func (m *StatusReply) Type() Type { return TypeStatusReply }

func (m *StatusReply) append(e *encoder) {
	e.str("server", m.Server, MaxText)
	e.u32(uint32(m.BrokerPID))
	e.u32(uint32(m.KeeperPID))
	e.time("started", m.Started)
	e.str("policy_file", m.PolicyFile, MaxPath)
	e.str("policy_sha256", m.PolicySHA256, MaxText)
	e.str("policy_error", m.PolicyError, MaxText)
	e.time("policy_loaded", m.PolicyLoaded)
	e.u32(m.Rules)
	e.u32(m.Holds)
	e.u32(m.Waiters)
	e.u32(m.Connections)
	e.u32(m.Lost)
	e.str("audit_segment", m.AuditSegment, MaxPath)
	e.u64(m.AuditSeq)
	e.str("audit_error", m.AuditError, MaxText)
	if !e.count("limits", len(m.Limits), MaxLimits) {
		return
	}
	for i := range m.Limits {
		l := &m.Limits[i]
		e.str("name", l.Name, MaxText)
		e.u64(l.PerUID)
		e.u64(l.All)
		e.u64(l.Used)
		e.u64(l.UsedAll)
	}
}

func parseStatusReply(d *decoder) *StatusReply {
	m := &StatusReply{
		Server: d.str("server", MaxText), BrokerPID: int32(d.u32("broker_pid")), KeeperPID: int32(d.u32("keeper_pid")),
		Started: d.time("started"), PolicyFile: d.str("policy_file", MaxPath),
		PolicySHA256: d.str("policy_sha256", MaxText), PolicyError: d.str("policy_error", MaxText),
		PolicyLoaded: d.time("policy_loaded"), Rules: d.u32("rules"), Holds: d.u32("holds"),
		Waiters: d.u32("waiters"), Connections: d.u32("connections"), Lost: d.u32("lost"),
		AuditSegment: d.str("audit_segment", MaxPath), AuditSeq: d.u64("audit_seq"), AuditError: d.str("audit_error", MaxText),
	}
	n := d.count("limits", MaxLimits, limitSize)
	if n == 0 {
		return m
	}
	m.Limits = make([]Limit, n)
	for i := range m.Limits {
		m.Limits[i] = Limit{
			Name: d.str("name", MaxText), PerUID: d.u64("per_uid"), All: d.u64("all"), Used: d.u64("used"), UsedAll: d.u64("used_all"),
		}
	}
	return m
}

// Reload asks the server to read its policy file anew. For root.
type Reload struct{}

// Type gives TypeReload.
func (m *Reload) Type() Type { return TypeReload }

// Reloaded answers Reload.
type Reloaded struct{ Lines []string } // what has changed, for people

// Type gives TypeReloaded.
func (m *Reloaded) Type() Type { return TypeReloaded }

func (m *Reloaded) append(e *encoder) { e.lines("lines", m.Lines) }

func parseReloaded(d *decoder) *Reloaded { return &Reloaded{Lines: d.lines("lines")} }
