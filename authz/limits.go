package authz

// Limits are the bounds on what clients may use, from [limits]. Plain names are
// per uid, names with All are for everybody together.
type Limits struct {
	Connections, ConnectionsAll           int
	ConnectionsEarly, ConnectionsEarlyAll int // before their first frame
	Holds, HoldsAll                       int
	Waiters, WaitersAll                   int
	Opens, OpensAll                       int   // opens in progress
	DenialRate, DenialBurst               int   // denial records per second, and at once
	DenialRateAll                         int   // denial records per second
	UnsentAll                             int64 // bytes of unsent answers over all connections of a uid
}

// DefaultLimits returns the limits of a policy without [limits].
func DefaultLimits() Limits {
	return Limits{
		Connections: 64, ConnectionsAll: 4096,
		ConnectionsEarly: 8, ConnectionsEarlyAll: 256,
		Holds: 1024, HoldsAll: 65536,
		Waiters: 256, WaitersAll: 16384,
		Opens: 4, OpensAll: 32,
		DenialRate: 10, DenialBurst: 50, DenialRateAll: 200,
		UnsentAll: 1 << 20,
	}
}

const (
	minUnsent = 64 << 10 // bytes: the largest frame must fit
	maxUnsent = 1 << 30  // bytes
)

// limitKey is a key of [limits] with a whole number as its value.
type limitKey struct {
	key   string
	field *int
	max   int
	all   string // the key of the bound for everybody, which may not be lower; "" if none
}

// keys lists the keys of [limits] but unsent, in the order of Limits. The maxima
// keep a typing error from switching a limit off; what they allow still fits into
// the memory and the descriptors of a small NAS.
func (l *Limits) keys() []limitKey {
	return []limitKey{
		{"connections", &l.Connections, 65536, "connections_all"},
		{"connections_all", &l.ConnectionsAll, 262144, ""},
		{"connections_early", &l.ConnectionsEarly, 65536, "connections_early_all"},
		{"connections_early_all", &l.ConnectionsEarlyAll, 262144, ""},
		// 8,000: "unlock --all" answers with all ids of a uid in one frame.
		{"holds", &l.Holds, 1 << 16, "holds_all"},
		{"holds_all", &l.HoldsAll, 1 << 20, ""},
		{"waiters", &l.Waiters, 65536, "waiters_all"},
		{"waiters_all", &l.WaitersAll, 1 << 20, ""},
		{"opens", &l.Opens, 256, "opens_all"},
		{"opens_all", &l.OpensAll, 4096, ""},
		{"denial_rate", &l.DenialRate, 10000, "denial_rate_all"},
		{"denial_burst", &l.DenialBurst, 100000, ""},
		{"denial_rate_all", &l.DenialRateAll, 100000, ""},
	}
}
