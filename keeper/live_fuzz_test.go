package keeper

import (
	"encoding/binary"
	"testing"
)

// FuzzLive: whatever a broker sends, the keeper reads it to its end, and all descriptors that came are kept or closed.
//
// A frame is a length of two bytes, of which the top two bits say how many descriptors come with it, and its bytes; the checksum
// is put right when bit 13 says so.
func FuzzLive(f *testing.F) {
	frame := func(b []byte, fds int, sum bool) []byte {
		head := uint16(len(b)) | uint16(fds)<<14
		if sum {
			head |= 1 << 13
		}
		return append(binary.BigEndian.AppendUint16(nil, head), b...)
	}
	var all []byte
	for _, v := range readVectors(f) {
		for fds := range 4 {
			f.Add(frame(v.bytes, fds, false))
			f.Add(frame(v.bytes[:max(0, len(v.bytes)-sumSize)], fds, true))
		}
		all = append(all, frame(v.bytes, 2, false)...)
	}
	f.Add(all)
	fd := file(f, 5)
	once := func(t *testing.T, b []byte) {
		broker, end := ends(t)
		s := &Server{kept: newEntries()}
		for len(b) >= 2 {
			head := binary.BigEndian.Uint16(b)
			n := min(int(head&(1<<13-1)), len(b)-2, maxMessage+8)
			packet := b[2 : 2+n]
			b = b[2+n:]
			if head>>13&1 == 1 {
				packet = withSum(packet)
			}
			if sendRaw(t, broker, packet, []int{fd, fd, fd}[:head>>14]...) != nil {
				break // the queue is full
			}
		}
		must(t, broker.Close())
		s.serve(t.Context(), end)
		for _, id := range s.kept.ids() {
			e, ok := s.kept.get(id)
			if !ok || len(e.Blob) > MaxBlob {
				t.Fatalf("entry %d: %+v", id, e)
			}
			for _, fd := range []int{e.Lock, e.Holder} {
				if fd >= 0 {
					offset(t, fd)
				}
			}
		}
		s.close()
	}
	warm := false
	f.Fuzz(func(t *testing.T, b []byte) {
		if !warm {
			once(t, b)
			warm = true
		}
		before := openFDs(t)
		once(t, b)
		if after := openFDs(t); after != before {
			t.Fatalf("%d descriptors were open before, %d are after", before, after)
		}
	})
}
