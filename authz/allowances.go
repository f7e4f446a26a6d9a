package authz

import (
	"slices"
	"time"
)

// Allowance is one thing that a peer may do, as "policy list" shows it.
type Allowance struct {
	Paths            []string // 1 to 64; each path and all below it
	Can              []string // words of Action
	MaxHold, MaxWait time.Duration
	Holds            int // this and the durations: 0 where there is no limit
	Engines          Engines
	Quiet            time.Duration // as Decision.Quiet
}

// Allowances lists what the peer may do, in the order of the file, with the
// templates filled in and cut down to the whitelist. Paths that a deny forbids
// altogether are left out; a deny of something below a path is not shown.
func (p *Policy) Allowances(peer *Peer) []Allowance {
	if p == nil || !p.Connect(peer) {
		return nil
	}
	if p.standalone || peer.UID == 0 && len(p.rules) > 0 {
		all := rule{can: allActions, engines: bothEngines}
		return p.allowance(nil, peer, &all, p.Allow)
	}
	var list []Allowance
	for i := range p.rules {
		r := &p.rules[i]
		if !r.names(peer) {
			continue
		}
		var paths []string
		for k := range r.paths {
			if path, ok := r.paths[k].expand(p, peer.UID); ok {
				paths = append(paths, p.clip(path)...)
			}
		}
		list = p.allowance(list, peer, r, paths)
	}
	return list
}

// clip returns the part of path and all below it that the whitelist holds.
func (p *Policy) clip(path string) []string {
	if p.inside(path) {
		return []string{path}
	}
	var parts []string
	for _, root := range p.Allow {
		if within(root, path) {
			parts = append(parts, root)
		}
	}
	return parts
}

// allowance appends what the rule lets the peer do below paths.
func (p *Policy) allowance(list []Allowance, peer *Peer, r *rule, paths []string) []Allowance {
	var open []string
	for _, path := range paths {
		if !slices.Contains(open, path) && p.deniedBy(peer, path) == nil {
			open = append(open, path)
		}
	}
	for part := range slices.Chunk(open, maxPaths) {
		list = append(list, Allowance{
			Paths: part, Can: r.can.words(), MaxHold: r.maxHold, MaxWait: r.maxWait,
			Holds: r.holds, Engines: r.engines, Quiet: r.quiet,
		})
	}
	return list
}
