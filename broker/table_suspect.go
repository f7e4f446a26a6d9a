package broker

import "slices"

// A cycle of owners can also arise without anybody coming: an owner who gives up a hold, or a claim in front of another
// of his, may have to wait for somebody from then on who waits for him. He is suspect, and his claims are judged anew.

// suspectRest notes that c is about to leave. Claims of the same owner that stood behind it on a file have
// to wait there for whoever stands between, from now on.
func (t *table) suspectRest(c *claim) {
	for d := c.party.claims; d != nil; d = d.next {
		if d != c && slices.ContainsFunc(d.keys, c.has) {
			t.moves.suspect(c.party)
			return
		}
	}
}

// acquit looks at all suspects, and returns those of their claims that had to go because they wait in a cycle now.
func (t *table) acquit() []event {
	t.acquitAll()
	evs := t.moves.events
	t.moves.events = nil
	return evs
}

func (t *table) acquitAll() {
	for len(t.moves.suspects) > 0 {
		p := t.moves.suspects[0]
		t.moves.suspects = slices.Delete(t.moves.suspects, 0, 1)
		t.acquitOne(p)
	}
}

// acquitOne sends the newest claim of p away that waits in a cycle, if any; leaving makes p suspect again if need be.
func (t *table) acquitOne(p *party) {
	claims := p.inOrder()
	for i := len(claims) - 1; i >= 0; i-- {
		c := claims[i]
		if c.state != claimWaiting {
			continue
		}
		if cycle := t.cycle(p, c); cycle != nil {
			t.moves.suspect(p)
			t.out(c, deadlock, detail{cycle: cycle})
			return
		}
	}
}
