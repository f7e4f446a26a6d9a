package wire

import "time"

// Rules asks what the client may do.
type Rules struct{}

// Type gives TypeRules.
func (m *Rules) Type() Type { return TypeRules }

// RulesReply answers Rules.
type RulesReply struct{ Rules []Allowance }

// Allowance is what one rule allows the asking peer.
type Allowance struct {
	Paths   []string      // each and all below it
	Can     []string      // as Explain.Action
	MaxHold time.Duration // 0 in these three: no limit
	MaxWait time.Duration
	Holds   uint32
	Engines []string // "ofd", "flock"
}

const allowanceSize = 2 + 2 + 8 + 8 + 4 + 2

// Type gives TypeRulesReply.
func (m *RulesReply) Type() Type { return TypeRulesReply }

func (m *RulesReply) append(e *encoder) {
	if !e.count("rules", len(m.Rules), MaxListed) {
		return
	}
	for i := range m.Rules {
		a := &m.Rules[i]
		e.names("paths", a.Paths, MaxListed, MaxPath)
		e.names("can", a.Can, MaxWords, MaxText)
		e.duration("max_hold", a.MaxHold, forever)
		e.duration("max_wait", a.MaxWait, forever)
		e.u32(a.Holds)
		e.names("engines", a.Engines, MaxWords, MaxText)
	}
}

func parseRulesReply(d *decoder) *RulesReply {
	n := d.count("rules", MaxListed, allowanceSize)
	if n == 0 {
		return &RulesReply{}
	}
	m := &RulesReply{Rules: make([]Allowance, n)}
	for i := range m.Rules {
		m.Rules[i] = Allowance{
			Paths: d.names("paths", nil, MaxListed, MaxPath), Can: d.names("can", nil, MaxWords, MaxText),
			MaxHold: d.duration("max_hold", forever), MaxWait: d.duration("max_wait", forever),
			Holds: d.u32("holds"), Engines: d.names("engines", nil, MaxWords, MaxText),
		}
	}
	return m
}

// Explain asks what the policy says about somebody else. For root.
type Explain struct {
	User      string   // name or uid
	HasGroups bool     // Groups replaces those of the user database
	Groups    []string // names or gids; only with HasGroups
	Action    string   // "lock", "lock-shared", "list" or "break"
	Path      string
}

// Type gives TypeExplain.
func (m *Explain) Type() Type { return TypeExplain }

func (m *Explain) append(e *encoder) {
	e.name("user", m.User, MaxText)
	e.bool(m.HasGroups)
	e.names("groups", m.Groups, MaxListed, MaxText)
	e.str("action", m.Action, MaxText)
	e.name("path", m.Path, MaxPath)
	e.must("groups", m.HasGroups || len(m.Groups) == 0)
	if !isAction(m.Action) {
		e.fail("action", ErrValue)
	}
}

func parseExplain(d *decoder) *Explain {
	m := &Explain{
		User: d.name("user", MaxText), HasGroups: d.bool("has_groups"), Groups: d.names("groups", nil, MaxListed, MaxText),
		Action: d.str("action", MaxText), Path: d.name("path", MaxPath),
	}
	d.must("groups", m.HasGroups || len(m.Groups) == 0)
	if !isAction(m.Action) {
		d.fail("action", ErrValue)
	}
	return m
}

func isAction(s string) bool {
	return s == "lock" || s == "lock-shared" || s == "list" || s == "break"
}

// Explained answers Explain.
type Explained struct {
	Allowed bool
	By      string   // which rule decided, with file and line, or why nothing allows it
	Others  []string // the losing ones, with file, line and why
}

// Type gives TypeExplained.
func (m *Explained) Type() Type { return TypeExplained }

func (m *Explained) append(e *encoder) {
	e.bool(m.Allowed)
	e.str("by", m.By, MaxText)
	e.lines("others", m.Others)
}

func parseExplained(d *decoder) *Explained {
	return &Explained{Allowed: d.bool("allowed"), By: d.str("by", MaxText), Others: d.lines("others")}
}
