package broker

import "testing"

func TestSameOwnerAgainIsSatisfied(t *testing.T) {
	s := tblPlay(t, tblRoomy, `
		a x F = granted
		a x F = satisfied
		a xn F = satisfied
		b s G = granted
		b s G = satisfied
		c x G = queued
		b s G = satisfied   # whoever waits meanwhile
		a x F,H = granted   # H alone is new
		a x F,H = satisfied
		a1 x E = granted
		a1:again x E = satisfied
		a free F,H =`)
	if len(s.found.owned) != 1 || s.found.owned[0] != s.t.holdsOf(tblFiles("E")[0])[0] {
		t.Errorf("satisfied by %v, not by the hold", s.found.owned)
	}
	tblLaws(t, map[string]string{
		"the owner's other claims follow the one that is granted": `
			h x F = granted
			a x F = queued
			b x F = queued
			a:again x F = queued
			h free F = a granted, a:again satisfied
			a free F = b granted`,
		"a set needs only the rest": `
			h x F = granted
			g x G = granted
			a:set x F,G = queued
			a x F = queued
			a:first x E = granted
			g free G =
			a cancel =
			h free F = a:set granted`,
		"a set waits on, eased, and goes before those who were ahead of it": `
			h x F = granted
			a1:one x F = queued
			b x F,G = queued
			b cancel =
			a1:set px F,G = queued
			h free F = a1:one granted, a1:set pending
			a1:set yes = granted`,
		"even a pending claim": `
			a x F = granted
			a:set px F,G = pending
			b xn F = blocked
			a free F =          # the set needs F too, now
			b x F = queued
			a:set yes = granted
			a free F = b granted`,
	})
}

func TestNoConversion(t *testing.T) {
	tblLaws(t, map[string]string{
		"of a hold": `
			a x F = granted
			a s F = conversion
			b s G = granted
			b x G = conversion
			b x E,G = conversion
			b xn G = conversion`,
		"of what is held when its turn comes": `
			h x F = granted
			a x F = queued
			a:other s F = queued
			h free F = a granted, a:other conversion`,
	})
}

func TestEndingHoldKeepsItsOwnerOutToo(t *testing.T) {
	tblLaws(t, map[string]string{
		"exclusive": `
			a x F = granted
			a end F =
			a xn F = blocked
			a x F = queued
			b x F = queued
			a free F = a granted`,
		"shared: its owner waits, others do not": `
			a s F = granted
			a end F =
			b s F = granted
			a s F = queued
			a free F = a granted`,
		"no conversion of what ends": `
			a x F = granted
			a end F =
			a s F = queued
			a free F = a granted`,
		"it is no reason for a deadlock": `
			a x F = granted
			b x G = granted
			b x F = queued
			b end G =
			a x G = queued
			b free G = a granted`,
	})
}
