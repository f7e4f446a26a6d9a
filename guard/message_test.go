package guard

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"testing"
)

// vector is one block of the vector file; its head says what the keys mean.
type vector struct {
	name, meaning, fields, err string
	bytes                      []byte
}

var vectorErrors = map[string]error{
	"truncated": errTruncated, "trailing": errTrailing, "sum": errSum, "version": errVersion, "kind": errKind, "limit": errLimit, "value": errValue,
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	const file = "testdata/vectors.txt"
	text, err := os.ReadFile(file)
	must(t, err)
	var all []vector
	seen := map[string]bool{}
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		if strings.HasPrefix(block, "#") {
			continue // the head
		}
		var v vector
		for line := range strings.SplitSeq(block, "\n") {
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "name":
				v.name = value
			case "meaning":
				v.meaning = value
			case "fields":
				v.fields = value
			case "error":
				v.err = value
			case "hex":
				v.bytes, err = hex.DecodeString(strings.ReplaceAll(value, " ", ""))
				must(t, err)
			default:
				t.Fatalf("vector %s: unknown line %q", v.name, line)
			}
		}
		if v.name == "" || seen[v.name] || v.meaning == "" || (v.fields == "") == (v.err == "") || v.err != "" && vectorErrors[v.err] == nil {
			t.Fatalf("vector %q is incomplete or there twice: %+v", v.name, v)
		}
		seen[v.name] = true
		all = append(all, v)
	}
	if len(all) < 50 {
		t.Fatalf("%s holds %d vectors only", file, len(all))
	}
	return all
}

// show writes a message as the vector file does.
func show(m *message) string {
	quoted := strconv.QuoteToASCII(m.text)
	text := quoted[1 : len(quoted)-1]
	switch m.kind {
	case kindDeny:
		paths := strconv.QuoteToASCII(strings.Join(m.paths, ","))
		return fmt.Sprintf("deny number=%d paths=%s", m.number, paths[1:len(paths)-1])
	case kindGuard:
		return fmt.Sprintf("guard number=%d set=%d id=%d", m.number, m.set, m.id)
	case kindLift:
		return fmt.Sprintf("lift number=%d id=%d", m.number, m.id)
	case kindPing:
		return fmt.Sprintf("ping number=%d", m.number)
	case kindAnswer:
		return fmt.Sprintf("answer number=%d code=%d text=%s", m.number, m.code, text)
	case kindRefused:
		return fmt.Sprintf("refused id=%d pid=%d count=%d text=%s", m.id, m.pid, m.count, text)
	case kindFailedOpen:
		return fmt.Sprintf("failed set=%d text=%s", m.set, text)
	}
	return fmt.Sprintf("unknown %+v", m)
}

func TestVectorsMeanWhatTheySay(t *testing.T) {
	for _, v := range readVectors(t) {
		var m message
		err := parseMessage(v.bytes, &m)
		if v.err != "" {
			if !errors.Is(err, vectorErrors[v.err]) {
				t.Errorf("%s (%s): got %v and error %v, want error %s", v.name, v.meaning, show(&m), err, v.err)
			}
			continue
		}
		if err != nil || show(&m) != v.fields {
			t.Errorf("%s (%s):\n got %s, %v\nwant %s", v.name, v.meaning, show(&m), err, v.fields)
			continue
		}
		if got := appendMessage(nil, &m); !bytes.Equal(got, v.bytes) {
			t.Errorf("%s (%s): encodes to\n     %x\nwant %x", v.name, v.meaning, got, v.bytes)
		}
	}
}

func TestAnyWrongBitIsRefused(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.err != "" || len(v.bytes) > 512 { // the longest say no more, and take long
			continue
		}
		for bit := range 8 * len(v.bytes) {
			b := bytes.Clone(v.bytes)
			b[bit/8] ^= 1 << (bit % 8)
			var m message
			if parseMessage(b, &m) == nil {
				t.Errorf("%s: bit %d is wrong and nobody notices", v.name, bit)
			}
		}
		for n := range v.bytes {
			var m message
			if parseMessage(v.bytes[:n], &m) == nil {
				t.Errorf("%s: cut to %d bytes and nobody notices", v.name, n)
			}
		}
	}
}

// withSum gives bytes the checksum that belongs to them, so that fuzzing gets past it.
func withSum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b[:len(b):len(b)], crc32.Checksum(b, castagnoli))
}

// FuzzMessage: whatever can be read is written again as the same bytes.
func FuzzMessage(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add(v.bytes[:max(0, len(v.bytes)-sumSize)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = withSum(b)
		var m message
		if parseMessage(b, &m) != nil {
			return
		}
		if len(m.paths) > MaxPaths || len(m.text) > maxPath || m.rights() > MaxDirs {
			t.Fatalf("%x: beyond the limits: %s", b, show(&m))
		}
		if got := appendMessage(nil, &m); !bytes.Equal(got, b) {
			t.Fatalf("%x\nis read as %s\nand written as\n%x", b, show(&m), got)
		}
	})
}
