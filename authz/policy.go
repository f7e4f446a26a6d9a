package authz

import (
	"io/fs"
	"time"
)

// Policy says who may do what with which path. It never changes after it was
// made, its exported fields included; use it from any goroutine.
type Policy struct {
	File   string   // name as given to Load or Parse, "" for Standalone
	SHA256 string   // of the file's bytes, hex; "" for Standalone
	Allow  []string // the whitelist, in the order of the file
	Server Server
	Audit  AuditSettings
	Limits Limits
	Guard  []string // the programs of [guard] deny: absolute paths, by Load with symbolic links resolved; empty: nobody is refused

	rules, denies []rule
	names         map[uint32]string // uid → name as of load
	doubts        []string          // about Guard, a sentence each
	standalone    bool              // no file: root and owner may do everything below Allow
	owner         uint32            // standalone only
}

// Server is the [server] table with its defaults filled in.
type Server struct {
	Socket         string      // default /run/locker.sock
	SocketMode     fs.FileMode // default 0600, with a socket_group 0660
	SocketGroup    uint32      // meaningful when HasSocketGroup
	HasSocketGroup bool
	StateDir       string // default /var/lib/locker
}

// AuditSettings is the [audit] table with its defaults filled in.
type AuditSettings struct {
	SegmentSize int64 // bytes, default 64 MiB, at least 64 KiB, at most 4 GiB
}

const (
	defaultSocket      = "/run/locker.sock"
	defaultStateDir    = "/var/lib/locker"
	defaultSegmentSize = 64 << 20 // bytes
)

// rule is one [[rule]] or [[deny]], compiled. The zero rule matches nothing.
type rule struct {
	name     string
	named    bool // the file gave the name; otherwise it is "rule 3", "deny 1"
	line     int
	deny     bool
	everyone bool     // users = ["*"]
	uids     []uint32 // ascending
	gids     []uint32 // ascending
	paths    []pattern

	can              actions // empty for a deny, which forbids every action
	maxHold, maxWait time.Duration
	holds            int
	engines          Engines
	hardlinks        bool
	quiet            time.Duration
}

// RuleCount returns the number of [[rule]] tables; denies are not counted.
func (p *Policy) RuleCount() int { return len(p.rules) }

// Name returns the user's name as of load, "" when the user database had none.
// The bytes are the database's: quote them before they reach a log or terminal.
func (p *Policy) Name(uid uint32) string { return p.names[uid] }

// Connect reports whether the peer may use the socket at all. With a policy file
// everybody known may, since the socket's mode guards it; without one only root
// and the user who runs lockerd.
func (p *Policy) Connect(peer *Peer) bool {
	if !peer.Known() {
		return false
	}
	return !p.standalone || peer.UID == 0 || peer.UID == p.owner
}
