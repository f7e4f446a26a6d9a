package keeper

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestEntriesAreAMap(t *testing.T) {
	const ids = 700
	s, model := newEntries(), map[uint64]Entry{}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 60_000 {
		id := random.Uint64N(ids)
		shrinking := round/6_000%2 == 1 // so that it is almost empty now and then
		if odds := random.IntN(10); odds < 3 || shrinking && odds < 9 {
			s.remove(id)
			delete(model, id)
		} else {
			e := Entry{ID: id, Lock: random.IntN(1000) - 1, Holder: random.IntN(1000) - 1, Blob: make([]byte, random.IntN(MaxBlob+1))}
			for i := range e.Blob {
				e.Blob[i] = byte(id + uint64(round))
			}
			s.put(e)
			model[id] = e
		}
		if s.len() != len(model) {
			t.Fatalf("round %d: %d entries, want %d", round, s.len(), len(model))
		}
		if round%500 != 0 {
			continue
		}
		for id, want := range model {
			got, ok := s.get(id)
			if !ok || got.Lock != want.Lock || got.Holder != want.Holder || !slices.Equal(got.Blob, want.Blob) {
				t.Fatalf("round %d, entry %d: got %+v, want %+v", round, id, got, want)
			}
		}
	}
	// Of each size, as many slots as were in use at once: less than if all entries were of the greatest.
	if got, most := len(s.chunks)*chunkSize, ids*maxUnits*unit; got > most {
		t.Errorf("churn of %d entries takes %d bytes, want at most %d", ids, got, most)
	}
	for _, id := range s.ids() {
		s.remove(id)
	}
	if len(s.chunks) > 1 || s.len() != 0 {
		t.Errorf("an empty store has %d entries and %d chunks", s.len(), len(s.chunks))
	}
}
