package audit

import "time"

// Alteration is what the log says has become of the files of a hold: the sum of its altered records.
type Alteration struct {
	Count  uint64    // how many were deleted, renamed or replaced
	Last   string    // the last of them, within the bundle; "": the locked file itself, or the bundle
	At     time.Time // of the last record
	Missed bool      // there may be more
}

// alteredExtra is how much longer than without it the held record of a hold is that was altered, without the escaped text.
const alteredExtra = 128 // bytes

// alter takes in what an altered or a held record says; each record says all of it.
func (s *State) alter(r *Record, at time.Time) {
	if r.Count == 0 && !r.Missed {
		return // a held record of a hold that was not altered
	}
	s.unalter(r.ID)
	a := &Alteration{Count: r.Count, Last: r.Text, At: timeOf(nanos(at)), Missed: r.Missed}
	s.altered[r.ID] = a
	s.size += a.size()
}

// unalter forgets it, of a hold that has ended.
func (s *State) unalter(id uint64) {
	if a := s.altered[id]; a != nil {
		delete(s.altered, id)
		s.size -= a.size()
	}
}

// size is what it takes in a held record, at most.
func (a *Alteration) size() int64 { return alteredExtra + int64(len(appendText(nil, a.Last))) }

func (a *Alteration) equal(o *Alteration) bool {
	if a == nil || o == nil {
		return a == o
	}
	return *a == *o
}
