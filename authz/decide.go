package authz

import "time"

// Decision is the answer of Decide. The zero Decision grants nothing. For a
// deny, Rule and Line name it; by a rule, they name the first that allows.
// The limits are 0 where no rule sets one.
type Decision struct {
	Allowed bool
	Rule    string // name of the rule or deny that decided, "root", "owner" (Standalone) or ""
	Line    int    // of that rule or deny in the policy file, else 0
	Why     Why

	// Of all rules that allow, field by field the most generous. With the most
	// generous, losing a rule can only take rights away.
	MaxHold, MaxWait time.Duration
	Holds            int
	Engines          Engines
	Hardlinks        bool // files with several links may be locked
	// Quiet is for how long nothing below a sparsebundle must have been written; 0 asks nothing, and so is the most generous.
	Quiet time.Duration
}

// Decide says whether the peer may do a with path. It is a function of its
// arguments and the policy alone: no clock, no file system, no user database.
//
// uid 0: no limits, no quiet and both engines whatever rules say; Hardlinks still has to
// come from a rule that names it, since a user can plant a link in root's way.
func (p *Policy) Decide(peer *Peer, a Action, path string) Decision {
	if d, refused := p.before(peer, a, path); refused {
		return d
	}
	if r := p.deniedBy(peer, path); r != nil {
		return Decision{Rule: r.name, Line: r.line, Why: WhyDeny}
	}
	if p.standalone {
		switch peer.UID {
		case 0:
			return Decision{Allowed: true, Rule: "root", Why: WhyRoot, Engines: bothEngines}
		case p.owner:
			return Decision{Allowed: true, Rule: "owner", Why: WhyRule, Engines: bothEngines}
		}
		return Decision{Why: WhyNoRule}
	}
	d := Decision{Why: WhyNoRule}
	for i := range p.rules {
		if r := &p.rules[i]; r.can.has(a) && r.covers(p, peer, path) && r.names(peer) {
			d.merge(r)
		}
	}
	// A file without any rule looks like one that was cut short, perhaps before
	// its denies: then not even root has rights.
	if peer.UID == 0 && len(p.rules) > 0 {
		d = Decision{
			Allowed: true, Rule: "root", Why: WhyRoot,
			Engines: bothEngines, Hardlinks: d.Hardlinks,
		}
	}
	return d
}

// before refuses what needs no look at rules and denies.
func (p *Policy) before(peer *Peer, a Action, path string) (d Decision, refused bool) {
	switch {
	case p == nil || !a.valid():
		return Decision{}, true
	case !peer.Known():
		return Decision{Why: WhyUnknownPeer}, true
	case CheckPath(path) != nil:
		return Decision{Why: WhyBadPath}, true
	case !p.inside(path):
		return Decision{Why: WhyOutside}, true
	}
	return Decision{}, false
}

// inside reports whether path lies inside the whitelist.
func (p *Policy) inside(path string) bool {
	for _, root := range p.Allow {
		if within(path, root) {
			return true
		}
	}
	return false
}

// deniedBy returns the first deny that matches, nil if none does.
func (p *Policy) deniedBy(peer *Peer, path string) *rule {
	for i := range p.denies {
		if r := &p.denies[i]; r.covers(p, peer, path) && r.names(peer) {
			return r
		}
	}
	return nil
}

// covers reports whether one of the rule's paths is path or above it.
func (r *rule) covers(p *Policy, peer *Peer, path string) bool {
	for i := range r.paths {
		if r.paths[i].covers(p, peer.UID, path) {
			return true
		}
	}
	return false
}

// names reports whether the rule is about the peer.
func (r *rule) names(peer *Peer) bool {
	if r.everyone {
		return true
	}
	for _, uid := range r.uids {
		if uid == peer.UID {
			return true
		}
	}
	for _, gid := range r.gids {
		if peer.inGroup(gid) {
			return true
		}
	}
	return false
}

// merge adds a rule that allows.
func (d *Decision) merge(r *rule) {
	if !d.Allowed {
		*d = Decision{
			Allowed: true, Rule: r.name, Line: r.line, Why: WhyRule,
			MaxHold: r.maxHold, MaxWait: r.maxWait, Holds: r.holds,
			Engines: r.engines, Hardlinks: r.hardlinks, Quiet: r.quiet,
		}
		return
	}
	d.MaxHold = moreGenerous(d.MaxHold, r.maxHold)
	d.MaxWait = moreGenerous(d.MaxWait, r.maxWait)
	d.Holds = moreGenerous(d.Holds, r.holds)
	d.Engines |= r.engines
	d.Hardlinks = d.Hardlinks || r.hardlinks
	d.Quiet = min(d.Quiet, r.quiet)
}

// moreGenerous returns the higher of two limits, of which 0 is the highest.
func moreGenerous[N int | time.Duration](a, b N) N {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}
