package broker

import "testing"

// tblLaws plays stories that need no more than themselves to be understood.
func tblLaws(t *testing.T, stories map[string]string) {
	for name, story := range stories {
		t.Run(name, func(t *testing.T) { tblPlay(t, tblRoomy, story) })
	}
}

func TestExclusiveHoldKeepsEverybodyElseOut(t *testing.T) {
	tblLaws(t, map[string]string{
		"exclusive then all": `
			a x F = granted
			b xn F = blocked
			b sn F = blocked
			root xn F = blocked
			b x F = queued
			c s F = queued
			a free F = b granted
			b free F = c granted`,
		"shared then exclusive": `
			a s F = granted
			b s F = granted
			c xn F = blocked
			c x F = queued
			a free F =
			b free F = c granted`,
		"two sessions of one uid exclude each other": `
			a1 x F = granted
			a2 xn F = blocked
			a2 x F = queued
			a x F = queued    # and a detached owner of the uid is a third
			a1 free F = a2 granted`,
		"while the kernel is asked, readers wait for a reader too": `
			a ps F = pending
			b s F = queued
			c sn F = blocked
			a yes = granted, b granted`,
	})
}

func TestSharedRunIsGrantedTogether(t *testing.T) {
	tblLaws(t, map[string]string{
		"one after another while the kernel answers": `
			w x F = granted
			a s F = queued
			b s F = queued
			c s F = queued
			v x F = queued
			d s F = queued
			w free F = a granted, b granted, c granted
			a free F =
			b free F =
			c free F = v granted
			v free F = d granted`,
		"the next one when the kernel has answered": `
			w x F = granted
			a ps F = queued
			b ps F = queued
			w free F = a pending
			a yes = granted, b pending
			b yes = granted`,
		"the next one when the kernel has refused": `
			w x F = granted
			a ps F = queued
			b s F = queued
			w free F = a pending
			a cancel = b granted`,
	})
}

func TestExclusiveWaiterIsNotStarvedByReaders(t *testing.T) {
	tblLaws(t, map[string]string{"": `
		a s F = granted
		w x F = queued
		b s F = queued    # later than w, so behind w, though a reader is in
		c sn F = blocked
		a free F = w granted
		w free F = b granted`})
}

func TestReadersAreNotStarvedByWriters(t *testing.T) {
	tblLaws(t, map[string]string{"": `
		v x F = granted
		a s F = queued
		w x F = queued
		v free F = a granted
		v x F = queued
		a free F = w granted
		b s F = queued
		w free F = v granted
		v free F = b granted`})
}

func TestUIDIsServedInItsOwnOrder(t *testing.T) {
	tblLaws(t, map[string]string{"": `
		h x F = granted
		a1 x F = queued
		a2 x F = queued
		a3 x F = queued
		h free F = a1 granted
		a1 x F = satisfied
		a1 free F = a2 granted
		a1 x F = queued
		a2 free F = a3 granted
		a3 free F = a1 granted`})
}

func TestSecondWaiterOfAUIDStandsBehindFirstOfOthers(t *testing.T) {
	s := tblPlay(t, tblRoomy, `
		h x F = granted
		a1 x F = queued
		a2 x F = queued
		a3 x F = queued
		b1 x F = queued
		b2 x F = queued
		c1 x F = queued`)
	if got, want := s.queued("F"), "a1 b1 c1 a2 b2 a3"; got != want {
		t.Errorf("queue %s, want %s", got, want)
	}
	// Being served and coming back does not make a uid a newcomer while others wait.
	for _, step := range [][2]string{{"h", "a1"}, {"a1", "b1"}, {"b1", "c1"}} {
		if got, want := s.do([]string{step[0], "free", "F"}), step[1]+" granted"; got != want {
			t.Fatalf("%s freed it: %s, want %s", step[0], got, want)
		}
		s.do([]string{step[0], "x", "F"})
	}
	if got, want := s.queued("F"), "h a2 b2 a3 b1 a1"; got != want {
		t.Errorf("queue %s, want %s", got, want)
	}
}

func TestCancelingGivesTheTurnBack(t *testing.T) {
	s := tblPlay(t, tblRoomy, `
		h x F = granted
		a1 x F = queued
		b1 x F = queued
		a2 x F = queued
		a2 cancel =
		a3 x F = queued
		a3 cancel =
		a2 x F = queued
		b2 x F = queued`)
	if got, want := s.queued("F"), "a1 b1 a2 b2"; got != want {
		t.Errorf("queue %s, want %s", got, want)
	}
}

func TestSetIsGrantedAllOrNone(t *testing.T) {
	tblLaws(t, map[string]string{
		"it holds nothing while it waits": `
			a x F = granted
			b x F,G = queued
			c xn G = blocked  # b is earlier
			b cancel =
			c xn G = granted`,
		"a later set does not pass it, and none of both takes half": `
			h x G = granted
			a x F,G = queued
			b x F,G = queued
			c x F = queued
			h free G = a granted
			a free F =
			a free G = b granted
			b free F = c granted`,
		"a writer does not pass readers who wait for another file": `
			h x G = granted
			a s F,G = queued
			b xn F = blocked
			b x F = queued
			h free G = a granted
			a free F,G = b granted`,
		"readers pass a set that waits for another file": `
			h x G = granted
			a s F,G = queued
			b s F = granted
			c x F = queued
			d s F = queued
			h free G = a granted
			a free F,G =
			b free F = c granted
			c free F = d granted`,
	})
}
