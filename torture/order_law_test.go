package torture

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// held is a hold that was asked for at a, answered at b, given up at c and released at d.
func held(token uint64, shared bool, a, b, c, d int64) span {
	return span{who: makeWord(int(token%24), 1, uint32(token), false), shared: shared, token: token, asked: a, answered: b, letting: c, let: d}
}

const never = math.MaxInt64

func TestAHistoryIsExplainedOnlyIfItCanBe(t *testing.T) {
	for _, c := range []struct {
		name string
		can  bool
		h    []span
	}{
		{"one after the other", true, []span{held(1, false, 0, 1, 5, 6), held(2, false, 2, 7, 8, 9)}},
		{"answered while the release was under way", true, []span{held(1, false, 0, 1, 5, 9), held(2, false, 2, 7, 8, 9)}},
		{"answered before the other was given up", false, []span{held(1, false, 0, 1, 5, 6), held(2, false, 2, 4, 8, 9)}},
		{"two readers at once", true, []span{held(1, true, 0, 1, 5, 6), held(2, true, 2, 3, 8, 9)}},
		{"two readers, answered against the order of their tokens", true, []span{held(1, true, 0, 4, 5, 6), held(2, true, 0, 2, 8, 9)}},
		{"a writer among readers", false, []span{held(1, true, 0, 1, 5, 6), held(2, false, 2, 3, 4, 5), held(3, true, 4, 6, 8, 9)}},
		{"a killed reader", true, []span{held(1, true, 0, 1, 5, never), held(2, false, 2, 7, 8, 9)}},
		{"a killed reader, too early", false, []span{held(1, true, 0, 1, 8, never), held(2, false, 2, 7, 8, 9)}},
		{"never given up", false, []span{held(1, false, 0, 1, never, never), held(2, false, 2, 7, 8, 9)}},
		{"tokens against the order of the answers", false, []span{held(1, false, 7, 8, 9, 10), held(2, false, 0, 1, 5, 6)}},
	} {
		if err := explain(c.h); (err == nil) != c.can {
			t.Errorf("%s: %v, want an explanation: %v", c.name, err, c.can)
		}
	}
}

// A long history is checked in pieces; a fault is found wherever it is, also where the pieces meet.
func TestAFaultIsFoundInEveryPlaceOfALongHistory(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h []span
	for at, token := int64(0), uint64(1); len(h) < 3*windowSpans; at += 100 {
		group, shared := 1, random.IntN(3) == 0
		if shared {
			group = 1 + random.IntN(4)
		}
		for range group {
			h = append(h, held(token, shared, at-random.Int64N(300), at+10+random.Int64N(10), at+30+random.Int64N(10), at+50+random.Int64N(40)))
			token++
		}
	}
	if err := explain(h); err != nil {
		t.Fatalf("nothing is wrong with it: %v", err)
	}
	for i := 1; i < len(h); i++ {
		if h[i-1].shared && h[i].shared {
			continue
		}
		if edge := i % windowSpans; edge > 5 && edge < windowSpans-5 && i%17 != 0 {
			continue // away from where pieces meet some are enough
		}
		early := slices.Clone(h)
		early[i].asked, early[i].answered = h[i-1].answered-2, h[i-1].answered+5 // before the one ahead was given up
		if explain(early) == nil {
			t.Errorf("hold %d of %d was answered too early, which was not found", i, len(h))
		}
	}
}
