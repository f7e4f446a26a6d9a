package authz

import "slices"

// Peer is a process at the other end of a socket, as of its connect(2). The zero
// Peer is nobody. Only PeerOf and PeerFor make a known one.
type Peer struct {
	UID, GID uint32   // effective ids
	Groups   []uint32 // supplementary groups, ascending, without GID unless the kernel lists it
	PID      int32    // 0: none (PeerFor)
	PidFD    int      // -1: none; whoever got the Peer closes it. Meaningless in the zero Peer

	known bool
}

// Known reports whether the peer is somebody: it came from PeerOf or PeerFor and
// neither id is an overflow id.
func (p *Peer) Known() bool {
	return p != nil && p.known && !overflow(p.UID) && !overflow(p.GID)
}

// PeerFor makes a peer out of ids, without a process: for explaining decisions
// and for tests. It is known unless uid or gid is an overflow id.
func PeerFor(uid, gid uint32, groups []uint32) Peer {
	sorted := slices.Clone(groups)
	slices.Sort(sorted)
	return Peer{
		UID: uid, GID: gid, Groups: sorted, PidFD: -1,
		known: !overflow(uid) && !overflow(gid),
	}
}

// overflow reports whether id stands for "somebody of another user namespace"
// (65534, /proc/sys/kernel/overflowuid, user_namespaces(7)) or for "no id"
// ((uid_t)-1, setresuid(2)). Two different people may show the same overflow id,
// so it must never be matched.
func overflow(id uint32) bool { return id == 65534 || id == 1<<32-1 }

// inGroup reports whether the peer has gid as primary or supplementary group.
func (p *Peer) inGroup(gid uint32) bool {
	if p.GID == gid {
		return true
	}
	_, found := slices.BinarySearch(p.Groups, gid)
	return found
}
