package keeper

import (
	"encoding/binary"
	"maps"
	"slices"
)

// entries are what the keeper keeps. There may be as many as descriptors, so each is kept in few bytes, and churn makes
// no garbage that would double the heap: blobs lie in slots of whole units cut from chunks, and a slot that becomes
// free goes to the next entry of its size. So the memory is that of the most entries of each size that there
// ever were at once; when the last entry goes, all of it goes.
type entries struct {
	refs   map[uint64]ref
	chunks [][]byte
	fresh  ref               // the first unit never used
	free   [maxUnits + 1]ref // by size in units: a free slot, which names the next; 0: none
}

// ref is the number of a slot's first unit. 0 is none.
type ref uint32

const (
	unit      = 32       // bytes
	chunkSize = 64 << 10 // bytes
	perChunk  = chunkSize / unit
	slotHead  = 4 + 4 + 2 // bytes: lock, holder, length of the blob
	maxUnits  = (slotHead + MaxBlob + unit - 1) / unit
)

func newEntries() *entries {
	return &entries{refs: map[uint64]ref{}, fresh: 1}
}

func (s *entries) len() int { return len(s.refs) }

func (s *entries) has(id uint64) bool {
	_, ok := s.refs[id]
	return ok
}

// get gives an entry; its blob is valid until the next change.
func (s *entries) get(id uint64) (Entry, bool) {
	r, ok := s.refs[id]
	if !ok {
		return Entry{}, false
	}
	slot := s.slot(r)
	return Entry{
		ID:     id,
		Lock:   int(int32(binary.NativeEndian.Uint32(slot))),
		Holder: int(int32(binary.NativeEndian.Uint32(slot[4:]))),
		Blob:   slot[slotHead : slotHead+int(binary.NativeEndian.Uint16(slot[8:]))],
	}, true
}

// put adds an entry or changes all of it. It copies the blob.
func (s *entries) put(e Entry) {
	s.remove(e.ID)
	r := s.take(unitsFor(len(e.Blob)))
	slot := s.slot(r)
	binary.NativeEndian.PutUint32(slot, uint32(int32(e.Lock)))
	binary.NativeEndian.PutUint32(slot[4:], uint32(int32(e.Holder)))
	binary.NativeEndian.PutUint16(slot[8:], uint16(len(e.Blob)))
	copy(slot[slotHead:], e.Blob)
	s.refs[e.ID] = r
}

func (s *entries) remove(id uint64) {
	r, ok := s.refs[id]
	if !ok {
		return
	}
	delete(s.refs, id)
	slot := s.slot(r)
	s.give(r, unitsFor(int(binary.NativeEndian.Uint16(slot[8:]))))
	if len(s.refs) == 0 && len(s.chunks) > 1 {
		*s = *newEntries()
	}
}

// ids are in ascending order.
func (s *entries) ids() []uint64 {
	return slices.Sorted(maps.Keys(s.refs))
}

func unitsFor(blob int) int {
	return (slotHead + blob + unit - 1) / unit
}

func (s *entries) slot(r ref) []byte {
	return s.chunks[r/perChunk][r%perChunk*unit:]
}

// take finds a slot of n units.
func (s *entries) take(n int) ref {
	if r := s.free[n]; r != 0 {
		s.free[n] = ref(binary.NativeEndian.Uint32(s.slot(r)))
		return r
	}
	end := ref(len(s.chunks)) * perChunk
	if s.fresh+ref(n) > end {
		if left := end - min(s.fresh, end); left > 0 {
			s.give(s.fresh, int(left))
		}
		s.chunks = append(s.chunks, make([]byte, chunkSize))
		s.fresh = max(end, 1) // 0 is no slot
	}
	r := s.fresh
	s.fresh += ref(n)
	return r
}

// give makes a slot free.
func (s *entries) give(r ref, n int) {
	binary.NativeEndian.PutUint32(s.slot(r), uint32(s.free[n]))
	s.free[n] = r
}
