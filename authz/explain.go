package authz

import (
	"fmt"
	"path"
)

// Explanation is a Decision with the reasons behind it, for root's eyes: it holds
// the text of rules.
type Explanation struct {
	Decision Decision
	By       string   // `rule "own bundles" (/etc/locker/locker.toml:24)`, or why not
	Others   []string // every other deny and rule, in the order of the file, and why it does not decide
}

const (
	maxOthers     = 1024
	maxOthersSize = 48 << 10 // bytes: leaves room for the rest of a 64 KiB frame
	maxShownFile  = 256      // bytes
)

// Explain decides as Decide does and says why.
func (p *Policy) Explain(peer *Peer, a Action, path string) Explanation {
	e := Explanation{Decision: p.Decide(peer, a, path)}
	e.By = p.reason(e.Decision, a, path)
	if q := e.Decision.Quiet; q > 0 && a == ActLock {
		e.By += fmt.Sprintf("; a sparsebundle after %v of quiet", q)
	}
	if p == nil || !a.valid() || !peer.Known() {
		return e
	}
	size := 0
	for _, list := range [][]rule{p.denies, p.rules} {
		for i := range list {
			r := &list[i]
			if r.decides(e.Decision) {
				continue
			}
			line := fmt.Sprintf("%s: %s", p.place(r), p.lost(e.Decision, r, peer, a, path))
			if size += len(line); len(e.Others) == maxOthers-1 || size > maxOthersSize {
				e.Others = append(e.Others, "and more rules, which are left out here")
				return e
			}
			e.Others = append(e.Others, line)
		}
	}
	return e
}

// decides reports whether r is the rule that d names.
func (r *rule) decides(d Decision) bool {
	return d.Line == r.line && (d.Why == WhyDeny || d.Why == WhyRule)
}

// place names a rule with file and line.
func (p *Policy) place(r *rule) string {
	file, kind := p.File, "rule"
	if len(file) > maxShownFile {
		file = path.Base(file)
		file = file[max(0, len(file)-maxShownFile):]
	}
	if r.deny {
		kind = "deny"
	}
	if !r.named {
		return fmt.Sprintf("%s (%s:%d)", r.name, file, r.line)
	}
	return fmt.Sprintf("%s %q (%s:%d)", kind, r.name, file, r.line)
}

// reason says in a few words what decided.
func (p *Policy) reason(d Decision, a Action, path string) string {
	switch d.Why {
	case WhyRule, WhyDeny:
		for _, list := range [][]rule{p.denies, p.rules} {
			for i := range list {
				if list[i].decides(d) {
					return p.place(&list[i])
				}
			}
		}
		return "lockerd runs as this user and without a policy file"
	case WhyRoot:
		return "root needs no rule"
	case WhyUnknownPeer:
		return "the peer is unknown, or has an id that stands for nobody in particular"
	case WhyBadPath:
		return fmt.Sprint(CheckPath(path))
	case WhyOutside:
		return "the path lies outside allow"
	case WhyNoRule:
		switch {
		case p.standalone:
			return "without a policy file only root and the user who runs lockerd are served"
		case len(p.rules) == 0:
			return "the policy has no rule, which leaves nobody any right, not even root"
		}
		return fmt.Sprintf("no rule allows %s here", a)
	}
	return "refused"
}

// lost says why r did not decide, or that it would have.
func (p *Policy) lost(d Decision, r *rule, peer *Peer, a Action, path string) string {
	pathOK := CheckPath(path) == nil && r.covers(p, peer, path)
	switch {
	case !r.names(peer):
		return "subject: it names neither this user nor one of the groups"
	case !pathOK:
		return "path: none of its paths is this one or above it"
	case !r.deny && !r.can.has(a):
		return fmt.Sprintf("action: its can does not hold %q", a)
	case d.Why == WhyOutside:
		return "allow: the path lies outside the whitelist"
	case d.Why == WhyDeny && r.deny:
		return "it denies as well"
	case d.Why == WhyDeny:
		return "deny: it would allow, but a deny always wins"
	case d.Why == WhyRoot:
		return "it would allow, but root needs no rule"
	}
	return "it allows as well: of each limit the most generous is taken"
}
