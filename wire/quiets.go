package wire

import "time"

// Quiets says, before the RulesReply that has none of them, after how much quiet each of its rules lets a sparsebundle be locked. Of version 4.
type Quiets struct {
	Quiets []time.Duration // of each rule, in the order of the RulesReply; 0: it asks for none
}

// Type gives TypeQuiets.
func (m *Quiets) Type() Type { return TypeQuiets }

func (m *Quiets) append(e *encoder) {
	if !e.count("quiets", len(m.Quiets), MaxListed) {
		return
	}
	for _, q := range m.Quiets {
		e.duration("quiets", q, forever)
	}
}

func parseQuiets(d *decoder) *Quiets {
	n := d.count("quiets", MaxListed, 8)
	if n == 0 {
		return &Quiets{}
	}
	m := &Quiets{Quiets: make([]time.Duration, n)}
	for i := range m.Quiets {
		m.Quiets[i] = d.duration("quiets", forever)
	}
	return m
}
