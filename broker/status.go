package broker

import (
	"os"

	"locker/wire"
)

func selfPID() int { return os.Getpid() }

// status answers with the state of the broker, and what the asking uid uses of its limits.
func (b *Broker) status(s *session, id uint32) {
	regime := b.rules.Load()
	p, l := regime.policy, regime.policy.Limits
	b.mu.Lock()
	uid := s.peer.UID
	holds, waiters := b.table.countHolds(uid), b.table.countWaiting(uid)
	allHolds, allWaiters := b.table.countAllHolds(), b.table.countAllWaiting()
	health := b.log.Health()
	reply := &wire.StatusReply{
		Server: b.version, BrokerPID: int32(selfPID()), Started: b.started,
		PolicyFile: p.File, PolicySHA256: p.SHA256, PolicyError: wire.Clip(b.policyError, wire.MaxText), PolicyLoaded: regime.loaded, Rules: uint32(p.RuleCount()),
		Holds: uint32(allHolds), Waiters: uint32(allWaiters), Connections: uint32(b.connections), Lost: uint32(len(b.lost)),
		AuditSegment: health.Segment, AuditSeq: health.Seq,
	}
	if health.Err != nil {
		reply.AuditError = wire.Clip(health.Err.Error(), wire.MaxText)
	}
	if b.keeping.ready {
		reply.KeeperPID = b.keeping.conn.PID()
	}
	limit := func(name string, perUID, all, used, usedAll int) {
		reply.Limits = append(reply.Limits, wire.Limit{
			Name: name, PerUID: uint64(perUID), All: uint64(all), Used: uint64(used), UsedAll: uint64(usedAll),
		})
	}
	limit("connections", l.Connections, l.ConnectionsAll, s.acct.connections, b.connections)
	limit("connections without a first frame", l.ConnectionsEarly, l.ConnectionsEarlyAll, s.acct.early, b.early)
	limit("holds", l.Holds, l.HoldsAll, holds, allHolds)
	limit("waiters", l.Waiters, l.WaitersAll, waiters, allWaiters)
	limit("opens in progress", l.Opens, l.OpensAll, s.acct.opens.inUse(), b.gates.opens.inUse())
	limit("requests on slow file systems", slowUID, slowAll, s.acct.slow.inUse(), b.gates.slow.inUse())
	limit("unsent bytes", int(l.UnsentAll), 0, int(s.acct.unsent.Load()), 0)
	limit("denial records per second", l.DenialRate, l.DenialRateAll, 0, 0)
	limit("file descriptors", 0, descriptorLimit(), 0, b.descriptors())
	b.mu.Unlock()
	if !b.mayAdminister(&s.peer) { // paths and errors of the daemon's own files are the administrator's
		reply.AuditSegment, reply.PolicyError = "", plain(reply.PolicyError, "the newest policy file is refused")
		reply.AuditError = plain(reply.AuditError, "the log cannot take grants")
	}
	s.send(id, reply)
}

func plain(text, instead string) string {
	if text == "" {
		return ""
	}
	return instead
}
