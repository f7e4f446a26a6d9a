package broker

import "slices"

// setRound gives a claim that is coming in its place: the latest of what each of its lines would give it. kept is the
// round that it has already in lines that it only seemed to leave; fresh says which of its files are others.
func (t *table) setRound(c *claim, kept uint64, fresh func(i int) bool) {
	c.round = max(kept, 1)
	for i, f := range c.files {
		if f.line != nil && fresh(i) {
			c.round = max(c.round, f.line.roundFor(c.uid))
		}
	}
}

// align brings the clocks of a set's lines together. Each line counts rounds for itself, so beside a busy file, whose
// clock is far ahead, a set would stand behind everybody on its other files for as long as it takes those to count as
// far. Rounds have a meaning only against each other, so a line that is behind is moved up with all who stand in it;
// and since a set in it has one round everywhere, so are the lines that are tied to it by waiting sets.
func (t *table) align(c *claim) {
	top := uint64(0)
	for _, f := range c.files {
		if f.line != nil {
			top = max(top, f.line.clock)
		}
	}
	for _, f := range c.files {
		if f.line != nil && f.line.clock < top {
			t.moveUp(f, c, top)
		}
	}
}

// moveUp adds to all rounds in f's line, and in those tied to it, what the furthest of c's lines among them lacks to top.
func (t *table) moveUp(f *file, c *claim, top uint64) {
	files, claims := tied(f)
	ahead := uint64(0)
	for _, g := range files {
		if slices.Contains(c.files, g) {
			ahead = max(ahead, g.line.clock)
		}
	}
	by := top - ahead
	if by == 0 {
		return // tied to the one that is ahead: neither can run away from the other
	}
	for _, g := range files {
		g.line.clock += by
		for uid, w := range g.line.flows {
			w.high += by
			if w.served > 0 {
				w.served += by
			}
			g.line.flows[uid] = w
		}
	}
	for _, d := range claims {
		d.round += by
	}
	t.moves.shifted = append(t.moves.shifted, claims...)
}

// tied returns the files that are connected with f through sets, f itself included, and the claims in their lines.
func tied(f *file) ([]*file, []*claim) {
	files := []*file{f}
	var claims []*claim
	var sets map[*claim]bool // those of several files, which are met more than once
	var seen map[*file]bool
	for i := 0; i < len(files); i++ {
		l := files[i].line
		for _, some := range [][]*claim{l.pending, l.waiting} {
			for _, d := range some {
				if len(d.files) == 1 {
					claims = append(claims, d)
					continue
				}
				if sets == nil {
					sets, seen = map[*claim]bool{}, map[*file]bool{f: true}
				}
				if sets[d] {
					continue
				}
				sets[d] = true
				claims = append(claims, d)
				for _, g := range d.files {
					if !seen[g] {
						seen[g] = true
						files = append(files, g)
					}
				}
			}
		}
	}
	return files, claims
}
