package wire

import (
	"bytes"
	"io"
	"runtime"
	"testing"
)

// FuzzParse holds: no panic, and whatever parses re-encodes to the same bytes, so that there is one encoding per value.
func FuzzParse(f *testing.F) {
	for _, v := range readVectors(f) {
		if len(v.frame) > 4 {
			f.Add(v.frame[4:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		request, m, err := Parse(body)
		if !bytes.Equal(body, before) {
			t.Fatal("Parse has changed its input")
		}
		if err != nil {
			if m != nil {
				t.Fatalf("error %v and a message", err)
			}
			if CodeOf(err).String() == "unknown" {
				t.Fatalf("no code for %v", err)
			}
			return
		}
		frame, err := Append(nil, request, m)
		if err != nil {
			t.Fatalf("%#v parses and is not encoded: %v", m, err)
		}
		if !bytes.Equal(frame[4:], body) {
			t.Fatalf("%#v\n got %x\nwant %x", m, frame[4:], body)
		}
		if n, err := BodyLen([4]byte(frame)); err != nil || n != len(body) {
			t.Fatalf("length word %d, error %v, want %d", n, err, len(body))
		}
	})
}

// FuzzReadFrame holds: the frames of any stream are cut where their length words say, and never one byte is read beyond.
func FuzzReadFrame(f *testing.F) {
	var stream []byte
	for _, v := range readVectors(f) {
		f.Add(v.frame, 1)
		stream = append(stream, v.frame...)
	}
	f.Add(stream, 7)
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		r := &chunks{rest: stream, size: max(1, chunk%100)}
		var buf []byte
		used := 0
		for {
			body, err := ReadFrame(r, buf)
			if err != nil {
				if body != nil {
					t.Fatalf("error %v and a body", err)
				}
				if err == io.EOF && used != len(stream) {
					t.Fatalf("EOF after %d of %d bytes", used, len(stream))
				}
				return
			}
			if !bytes.Equal(body, stream[used+4:used+4+len(body)]) {
				t.Fatalf("frame at %d: got %x", used, body)
			}
			if used += 4 + len(body); used != len(stream)-len(r.rest) {
				t.Fatalf("%d bytes belong to frames, %d were read", used, len(stream)-len(r.rest))
			}
			buf = body
		}
	})
}

// chunks gives a stream in pieces, as a socket does.
type chunks struct {
	rest []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// maxPerByte bounds what Parse may allocate for each byte of a body. The worst is an empty text, whose 2 bytes become a
// string header of 16.
const maxPerByte = 10

// Counts that promise the most and hold the least, for every list there is.
func TestParseAllocatesInProportionToItsInput(t *testing.T) {
	head := func(typ Type) []byte { return []byte{typ.Version(), byte(typ), 0, 0, 0, 1} }
	full := func(prefix []byte, pad byte) []byte {
		return append(prefix, bytes.Repeat([]byte{pad}, MaxFrame-len(prefix))...)
	}
	for name, body := range map[string][]byte{
		"lines":         full(append(head(TypeReloaded), 0x04, 0x00), 0),
		"rows":          full(append(head(TypeRows), 0, 0x03, 0xc0), 0),
		"rules":         full(append(head(TypeRulesReply), 0x04, 0x00), 0),
		"rules' paths":  full(append(head(TypeRulesReply), 0x00, 0x01, 0x04, 0x00), 1),
		"ids":           full(append(head(TypeReleased), 0x1f, 0x40), 0),
		"holds":         full(append(head(TypeResumed), 0x1f, 0x40), 1),
		"holds missing": append(head(TypeResumed), 0x1f, 0x40),
		"ids missing":   append(head(TypeReleased), 0x1f, 0x40),
		"rows missing":  append(head(TypeRows), 0, 0x04, 0x00),
		"lines missing": append(head(TypeReloaded), 0x04, 0x00),
		"path missing":  append(head(TypeLock), 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x0f, 0xff),
	} {
		const runs = 50
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			Parse(body)
		}
		runtime.ReadMemStats(&after)
		got := (after.TotalAlloc - before.TotalAlloc) / runs
		if limit := uint64(1024 + maxPerByte*len(body)); got > limit {
			t.Errorf("%s: %d bytes allocated for a body of %d, limit %d", name, got, len(body), limit)
		}
	}
}
