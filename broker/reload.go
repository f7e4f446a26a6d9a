package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"locker/audit"
	"locker/authz"
	"locker/flock"
	"locker/wire"
)

// errNoPolicyFile is Reload's answer when lockerd was started without a policy file.
var errNoPolicyFile = errors.New("lockerd was started without a policy file, so there is nothing to take anew")

// Reload takes the policy file anew, all or nothing: a bad file leaves the old policy in force. It gives the lines that say what
// changed, the last of them whether that took a restart, which begins then. Holds that the new policy would not grant stay until they
// end; waiting claims that it does not allow are refused.
func (b *Broker) Reload(ctx context.Context) ([]string, error) {
	lines, again, err := b.takePolicy(ctx)
	if again {
		b.restart()
	}
	return lines, err
}

// takePolicy is Reload without the restart, which the caller begins if again says so.
func (b *Broker) takePolicy(ctx context.Context) (lines []string, again bool, err error) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	lines, again, err = b.reloadLocked(ctx)
	if err != nil {
		b.mu.Lock()
		b.policyError = err.Error()
		rec := audit.Record{Event: audit.EventPolicyRefused, Path: b.rules.Load().policy.File, Text: err.Error()}
		seq := b.append(&rec)
		b.mu.Unlock()
		b.commit(seq)
		b.logger.Error("policy refused, the old one stays in force", "error", err)
	}
	return lines, again, err
}

func (b *Broker) reloadLocked(ctx context.Context) (lines []string, again bool, err error) {
	if b.reload == nil {
		return nil, false, errNoPolicyFile
	}
	b.mu.Lock()
	stopped := b.stopped
	b.mu.Unlock()
	if stopped {
		return nil, false, errors.New("lockerd is stopping")
	}
	policy, err := b.reload()
	if err != nil {
		return nil, false, err
	}
	opener, warnings, err := flock.NewOpener(policy.Allow)
	if err != nil {
		return nil, false, err
	}
	old := b.rules.Load()
	opener.Follow(old.opener)
	lines = policy.Diff(old.policy)
	for _, w := range warnings {
		b.logger.Warn("whitelist entry", "problem", w)
		lines = append(lines, "warning: "+w)
	}
	if len(old.policy.Guard) == 0 && len(policy.Guard) > 0 {
		b.expectGuard()
	}
	b.rules.Store(&regime{policy: policy, opener: opener, loaded: b.now(), over: make(chan struct{})})
	close(old.over) // one reload at a time: reloading
	b.guardsAnew()

	b.mu.Lock()
	b.policyError = ""
	b.table.setLimits(tableLimits(policy.Limits))
	b.setRates(policy.Limits)
	b.gates.set(policy.Limits)
	for _, a := range b.accounts {
		a.opens.set(policy.Limits.Opens)
	}
	rec := policyRecord(policy)
	seq := b.append(&rec)
	evs := b.recheckWaiters()
	b.recheckHolds()
	b.changed()
	b.mu.Unlock()
	b.commit(seq)
	b.runAll(ctx, evs)
	taken, again := b.takenUp(policy)
	b.logger.Info("policy loaded", "file", policy.File, "sha256", policy.SHA256, "rules", policy.RuleCount(), "taken", taken)
	return append(lines, taken), again, nil
}

// takenUp says which of the two a reload was: all of it is in force, or lockerd is started again for what a running process cannot
// change about itself, which no lock is lost by.
func (b *Broker) takenUp(p *authz.Policy) (line string, again bool) {
	if p.Server.Socket != b.first.Socket || p.Server.StateDir != b.first.StateDir {
		defer func() { line += "; socket and state_dir stay where they are until lockerd is stopped and started" }()
	}
	var left []string
	if b.needs != nil {
		left = b.needs(p)
	}
	switch {
	case len(left) == 0:
		return "in force, without a restart", false
	case b.restart == nil:
		return "in force, but for this, which needs a restart of lockerd: " + strings.Join(left, "; "), false
	}
	return "in force; lockerd is being started again, which loses no lock, for: " + strings.Join(left, "; "), true
}

func policyRecord(p *authz.Policy) audit.Record {
	rec := audit.Record{Event: audit.EventPolicy, Path: p.File, SHA256: p.SHA256, Count: uint64(p.RuleCount())}
	if p.File == "" {
		rec.Text = "no policy file; allow: " + strings.Join(p.Allow, ", ")
	}
	return rec
}

// recheckWaiters stops every waiting request that the policy in force refuses. Those that are being worked on look for
// themselves before they are granted, and those whose client is away are decided when it sends them again: its groups are not known
// until then, nor are paths that did not fit. The caller holds mu.
func (b *Broker) recheckWaiters() []event {
	policy := b.rules.Load().policy
	var evs []event
	for _, s := range b.sessions {
		for _, r := range s.requests {
			if r.phase == phaseAbsent {
				continue
			}
			action := authz.ActLock
			if r.msg.Mode == wire.Shared {
				action = authz.ActLockShared
			}
			for _, path := range r.msg.Paths {
				if !policy.Decide(&s.peer, action, path).Allowed {
					evs = append(evs, b.stop(r, wire.CodeDenied)...)
					break
				}
			}
		}
	}
	return evs
}

// recheckHolds marks the holds that the policy in force would not grant. The caller holds mu.
func (b *Broker) recheckHolds() {
	policy := b.rules.Load().policy
	for _, h := range b.table.allHolds() {
		action := authz.ActLock
		if h.mode == shared {
			action = authz.ActLockShared
		}
		d := policy.Decide(&h.info.who.peer, action, h.info.path)
		// The groups of a hold that was taken back from the log are not known, so "no rule" may be wrong about it.
		h.info.outlawed = !d.Allowed && !(h.info.who.restored && d.Why == authz.WhyNoRule)
	}
}

// reloadFor works on a Reload request.
func (b *Broker) reloadFor(ctx context.Context, s *session, id uint32) {
	if !b.mayAdminister(&s.peer) {
		b.denyAdmin(s, id, "reload", "only root may reload the policy")
		return
	}
	lines, again, err := b.takePolicy(ctx)
	if again {
		defer func() { // not before the answer is out
			patience, stop := context.WithTimeout(ctx, writeDeadline)
			defer stop()
			s.out.flush(patience)
			b.restart()
		}()
	}
	if err != nil {
		s.refuse(id, wire.CodeUnavailable, "", wire.Clip("the old policy stays in force: "+err.Error(), wire.MaxText))
		return
	}
	for i := range lines {
		lines[i] = clip(lines[i])
	}
	if n := len(lines); n > 200 {
		lines = append(lines[:199], "and more", lines[n-1])
	}
	s.send(id, &wire.Reloaded{Lines: lines})
}

// denyAdmin refuses and records what is for administrators alone.
func (b *Broker) denyAdmin(s *session, id uint32, action, text string) {
	e := &wire.Error{Code: wire.CodeDenied, Text: text}
	b.denyAction(s.identify(), action, "", e, authz.Decision{})
	s.send(id, e)
}

// maxLine is how much of one line among many goes into a frame, in bytes.
const maxLine = 300

func clip(s string) string { return wire.Clip(s, maxLine) }

// rulesRoom is how many bytes of rules go into the one frame that answers Rules.
const rulesRoom = 48 << 10

// listRules answers with what the peer may lock.
func (b *Broker) listRules(s *session, id uint32) {
	reply, quiets := &wire.RulesReply{}, &wire.Quiets{}
	asked, room := false, rulesRoom
	for _, a := range b.rules.Load().policy.Allowances(&s.peer) {
		w := wire.Allowance{Paths: a.Paths, Can: a.Can, MaxHold: a.MaxHold, MaxWait: a.MaxWait, Holds: uint32(a.Holds)}
		for _, p := range a.Paths {
			room -= len(p) + 2
		}
		if room -= 100; room < 0 {
			break
		}
		if a.Engines&authz.OFD != 0 {
			w.Engines = append(w.Engines, "ofd")
		}
		if a.Engines&authz.Flock != 0 {
			w.Engines = append(w.Engines, "flock")
		}
		reply.Rules, quiets.Quiets = append(reply.Rules, w), append(quiets.Quiets, a.Quiet)
		asked = asked || a.Quiet > 0
	}
	if asked && s.version >= quiets.Type().Version() {
		s.send(id, quiets)
	}
	s.send(id, reply)
}

// explain answers what the policy in force says of somebody, for administrators: it tells other people's rules.
func (b *Broker) explain(s *session, id uint32, m *wire.Explain) {
	if !b.mayAdminister(&s.peer) {
		b.denyAdmin(s, id, "explain", "only root may ask what the policy says of others; 'locker policy list' says what you may lock")
		return
	}
	action, ok := authz.ParseAction(m.Action)
	if !ok {
		s.refuse(id, wire.CodeInvalid, "", "the action is lock, lock-shared, list or break")
		return
	}
	if err := authz.CheckPath(m.Path); err != nil {
		s.refuse(id, wire.CodeInvalid, m.Path, err.Error())
		return
	}
	peer, err := authz.AccountPeer(m.User, m.HasGroups, m.Groups)
	if err != nil {
		s.refuse(id, wire.CodeInvalid, "", err.Error())
		return
	}
	e := b.rules.Load().policy.Explain(&peer, action, m.Path)
	reply := &wire.Explained{Allowed: e.Decision.Allowed, By: clip(e.By)}
	for i, o := range e.Others {
		if i == 128 {
			reply.Others = append(reply.Others, "and "+strconv.Itoa(len(e.Others)-i)+" more")
			break
		}
		reply.Others = append(reply.Others, clip(o))
	}
	s.send(id, reply)
}
