package broker

import "testing"

func TestCycleOfOwnersIsRefused(t *testing.T) {
	tblLaws(t, map[string]string{
		"of two": `
			a x F = granted
			b x G = granted
			a x G = queued
			b x F = deadlock via a b
			b s F = deadlock via a b
			b xn F = blocked        # who does not wait closes no cycle
			b free G = a granted`,
		"of three": `
			a x F = granted
			b x G = granted
			c s H = granted
			a x G = queued
			b x H = queued
			c x F = deadlock via a b c`,
		"through a set": `
			a x F = granted
			b x G = granted
			b x E,F = queued
			a x D,G = deadlock via b a`,
		"through a claim ahead in the queue": `
			a x F = granted
			h x G = granted
			b x F,G = queued
			a x G = deadlock via b a`,
		"through the holder of one of several shared holds": `
			a s F = granted
			b s F = granted
			b x G = granted
			c x F = queued
			a x G = queued
			b x E = granted
			c x E = queued
			b s F = satisfied
			d x D = granted
			d x F = queued
			b x D = deadlock via d b`,
		"of sessions of one uid": `
			a1 x F = granted
			a2 x G = granted
			a1 x G = queued
			a2 x F = deadlock via a1 a2`,
		"closed by one who comes in front of others": `
			v x F = granted
			w1 x G = granted
			w2 x F = queued
			w1 x F = queued          # in w's second round: newcomers go before it
			y x F,G = deadlock via w1 y`,
		"closed by passing others, without waiting oneself": `
			v s F = granted
			w1 x G = granted
			w2 x F = queued
			w1 x F = queued
			w2 cancel =
			y x G = queued
			y sn F = deadlock via w1 y
			y s F = deadlock via w1 y
			z s F = granted`,
	})
}

func TestNoCycleIsNotRefused(t *testing.T) {
	tblLaws(t, map[string]string{
		"a chain": `
			a x F = granted
			b x G = granted
			c x H = granted
			c x G = queued
			b x F = queued
			d x H = queued
			a free F = b granted
			b free F,G = c granted
			c free G,H = d granted`,
		"two shells of one owner with another between them": `
			h x F = granted
			a x F = queued
			b x F = queued
			a:again x F = queued     # a's first claim will satisfy it
			h free F = a granted, a:again satisfied`,
		"two sets in opposite orders": `
			h x F = granted
			i x G = granted
			a x F,G = queued
			b x G,F = queued
			h free F =
			i free G = a granted
			a free F,G = b granted`,
		"readers do not wait for readers": `
			a s F = granted
			b s G = granted
			a s G = granted
			b s F = granted`,
		"a reader who waits for the kernel's answer to another does not wait for those who hold": `
			a s F = granted
			c x G = granted
			p ps F = pending
			a x G = queued
			c s F = queued
			p yes = granted, c granted`,
		"a reader waits for the kernel's answer to a reader, not for him": `
			b x G = granted
			a ps F = pending
			a:other x G = queued
			b s F = queued
			a yes = granted, b granted`,
		"the same owner twice in one queue": `
			h x F = granted
			a x E = granted
			a x F = queued
			a:set x F,G = queued
			h free F = a granted, a:set granted`,
	})
}

// What an owner gives up can leave a claim of his waiting for somebody who waits for him.
func TestCycleThatArisesLaterEndsTheClaim(t *testing.T) {
	tblLaws(t, map[string]string{
		"because the owner released what the claim counted on": `
			a x F,Z = granted
			h x G = granted
			y x F,Z = queued
			a x F,G = queued      # F is his; G is what he waits for
			a free F = a deadlock via y a`,
		"because what he held is ending": `
			a x F,Z = granted
			h x G = granted
			y x F,Z = queued
			a x F,G = queued
			a end F = a deadlock via y a`,
		"because his claim in front was canceled": `
			a x Z = granted
			h x F = granted
			a:first x F = queued
			y x F,Z = queued
			a:second x F = queued # behind y, but a:first will satisfy it
			a:first cancel = a:second deadlock via y a`,
		"because his claim in front went elsewhere": `
			a x Z = granted
			h x F = granted
			g x G = granted
			a:first x F = queued
			y x F,Z = queued
			a:second x F = queued
			a:first rekey G = queued, a:second deadlock via y a`,
	})
}

func TestDeadlockNamesWhatEachOwnerWaitsFor(t *testing.T) {
	s := tblPlay(t, tblRoomy, `
		a x F = granted
		b x G = granted
		h x H = granted
		c x G,H = queued
		b x F = queued
		a x H = deadlock via c b a`)
	links := s.found.cycle
	if links[0].claim != s.claims["c"] || links[0].key != tblFiles("H")[0] ||
		links[1].hold != s.t.holdsOf(tblFiles("G")[0])[0] || links[2].hold != s.t.holdsOf(tblFiles("F")[0])[0] {
		t.Errorf("cycle %+v", links)
	}
	if s.found.owned != nil {
		t.Errorf("owned %v", s.found.owned)
	}
}
