package torture

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// state is what a lock is after some steps.
type state struct {
	exclusive word
	readers   int
	last      uint64 // token
}

// step is a grant or a release.
type step struct {
	who     word
	release bool
	shared  bool
	token   uint64
}

// apply says whether a step can follow, and gives what is then.
func (s state) apply(x step) (bool, state) {
	switch {
	case !x.release && x.shared:
		ok := s.exclusive == 0 && x.token > s.last
		return ok, state{0, s.readers + 1, x.token}
	case !x.release:
		ok := s.exclusive == 0 && s.readers == 0 && x.token > s.last
		return ok, state{x.who, 0, x.token}
	case x.shared:
		return s.readers > 0, state{0, s.readers - 1, s.last}
	}
	return s.exclusive == x.who, state{0, 0, s.last}
}

func model(begin state) porcupine.Model {
	return porcupine.Model{
		Init:              func() any { return begin },
		Step:              func(s, in, _ any) (bool, any) { return s.(state).apply(in.(step)) },
		DescribeOperation: func(in, _ any) string { return fmt.Sprintf("%+v", in) },
	}
}

const windowSpans = 200 // about so many holds are checked at once

// explain looks for an order of a file's grants and releases that agrees with the times of all answers. The holds come in the order of
// their tokens, which is that of their grants, or there is no such order.
//
// All at once would be too much. The grant of an exclusive hold is a place to cut: whatever has a smaller token must have
// been released before it, and all else is granted or released after it. What is left to check then is that nothing behind the cut had
// been answered before something ahead of it was asked for.
func explain(holds []span) error {
	first := make([]int64, len(holds)+1) // when the first of these and later holds was answered
	first[len(holds)] = math.MaxInt64
	for i := len(holds) - 1; i >= 0; i-- {
		first[i] = min(first[i+1], holds[i].answered)
	}
	begin := state{}
	for done := 0; done < len(holds); {
		n := min(done+windowSpans, len(holds))
		for n < len(holds) && holds[n-1].shared {
			n++
		}
		cut := n < len(holds)
		window := holds[done:n]
		var ops []porcupine.Operation
		if done > 0 {
			ops = appendRelease(ops, &holds[done-1])
		}
		for i := range window {
			ops = appendGrant(ops, &window[i])
			if !cut || i < len(window)-1 {
				ops = appendRelease(ops, &window[i])
			}
		}
		if result := porcupine.CheckOperationsTimeout(model(begin), ops, 5*time.Minute); result != porcupine.Ok {
			return fmt.Errorf("no order explains these holds (porcupine: %v)\n%s", result, listSpans(window))
		}
		if cut {
			last := &holds[n-1]
			for _, op := range ops {
				if after := min(first[n], last.let); after < op.Call {
					return fmt.Errorf("something with a token above %d had been answered at %d, before something with one up to it was asked for at %d\n%s", last.token, after, op.Call, listSpans(window))
				}
			}
			begin = state{exclusive: last.who, last: last.token}
		}
		done = n
	}
	return nil
}

func appendGrant(ops []porcupine.Operation, s *span) []porcupine.Operation {
	return append(ops, porcupine.Operation{ClientId: s.who.owner(), Input: step{who: s.who, shared: s.shared, token: s.token}, Call: s.asked, Return: s.answered})
}

func appendRelease(ops []porcupine.Operation, s *span) []porcupine.Operation {
	if s.letting == math.MaxInt64 {
		return ops // it was never given up
	}
	return append(ops, porcupine.Operation{ClientId: s.who.owner(), Input: step{who: s.who, release: true, shared: s.shared}, Call: s.letting, Return: s.let})
}

// listSpans prints holds for people.
func listSpans(holds []span) string {
	var b strings.Builder
	for _, s := range holds {
		fmt.Fprintf(&b, "token %d shared %v asked %d answered %d given up %d released %d: %v\n", s.token, s.shared, s.asked, s.answered, s.letting, s.let, s.who)
	}
	return b.String()
}
