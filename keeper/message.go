package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// kind says which message it is. doc.go has the layouts.
type kind uint8

const (
	kindPut    kind = 0x01
	kindDrop   kind = 0x02
	kindSet    kind = 0x03
	kindList   kind = 0x04
	kindSync   kind = 0x05
	kindForget kind = 0x06
	kindEntry  kind = 0x81
	kindEnd    kind = 0x82
	kindSynced kind = 0x83
)

// MaxBlob is the length of the longest blob, bytes.
const MaxBlob = 512

const (
	version    = 1
	headSize   = 4 // bytes: version, kind, set, zero
	sumSize    = 4 // bytes
	maxMessage = headSize + 8 + 2 + MaxBlob + sumSize

	topBit = 1 << 63 // of an id: not counted in Past.Highest
)

// The bits of a message's set.
const (
	withLock   = 1 // of Put and Entry
	withHolder = 2
	isComplete = 1 // of End
)

// message is any of them; doc.go says which has which fields.
type message struct {
	kind    kind
	set     uint8
	id      uint64 // of an entry
	blob    []byte
	number  uint64 // of Sync and Synced
	highest uint64
	count   uint32
	room    uint32
}

var (
	errTruncated = errors.New("truncated")
	errTrailing  = errors.New("bytes after the last field")
	errSum       = errors.New("wrong checksum")
	errVersion   = errors.New("unknown version")
	errKind      = errors.New("unknown kind")
	errLimit     = errors.New("beyond its limit")
	errValue     = errors.New("invalid value")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendMessage appends m, which must be within the limits.
func appendMessage(b []byte, m *message) []byte {
	start := len(b)
	b = append(b, version, byte(m.kind), m.set, 0)
	switch m.kind {
	case kindPut, kindSet, kindEntry:
		b = binary.BigEndian.AppendUint64(b, m.id)
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.blob)))
		b = append(b, m.blob...)
	case kindDrop:
		b = binary.BigEndian.AppendUint64(b, m.id)
	case kindSync, kindSynced:
		b = binary.BigEndian.AppendUint64(b, m.number)
	case kindEnd:
		b = binary.BigEndian.AppendUint64(b, m.highest)
		b = binary.BigEndian.AppendUint32(b, m.count)
		b = binary.BigEndian.AppendUint32(b, m.room)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseMessage reads a whole datagram into m; m.blob is a part of b.
func parseMessage(b []byte, m *message) error {
	if len(b) < headSize+sumSize {
		return fmt.Errorf("%d bytes: %w", len(b), errTruncated)
	}
	if len(b) > maxMessage {
		return fmt.Errorf("%d bytes: %w", len(b), errTrailing)
	}
	end := len(b) - sumSize
	if crc32.Checksum(b[:end], castagnoli) != binary.BigEndian.Uint32(b[end:]) {
		return errSum
	}
	if b[0] != version {
		return fmt.Errorf("%w %d", errVersion, b[0])
	}
	*m = message{kind: kind(b[1]), set: b[2]}
	d := decoder{rest: b[headSize:end]}
	bits := uint8(0) // that set may have
	switch m.kind {
	case kindPut, kindEntry:
		bits = withLock | withHolder
		m.id = d.u64()
		m.blob = d.bytes(MaxBlob)
	case kindSet:
		m.id = d.u64()
		m.blob = d.bytes(MaxBlob)
	case kindDrop:
		m.id = d.u64()
	case kindList, kindForget:
	case kindSync, kindSynced:
		m.number = d.u64()
		d.must(m.number != 0)
	case kindEnd:
		bits = isComplete
		m.highest = d.u64()
		m.count = d.u32()
		m.room = d.u32()
		d.must(m.highest < topBit)
	default:
		return fmt.Errorf("%w %#x", errKind, b[1])
	}
	d.must(m.set&^bits == 0 && b[3] == 0)
	if d.err == nil && len(d.rest) != 0 {
		d.err = errTrailing
	}
	if d.err != nil {
		return fmt.Errorf("message %#x: %w", b[1], d.err)
	}
	return nil
}

// rights is the number of descriptors that come with m.
func (m *message) rights() int {
	if m.kind != kindPut && m.kind != kindEntry {
		return 0
	}
	return int(m.set&withLock) + int(m.set&withHolder)>>1
}

// decoder takes fields from the front of rest and remembers the first error.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && len(d.rest) < n {
		d.err = errTruncated
	}
	if d.err != nil {
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) u16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes does not copy.
func (d *decoder) bytes(max int) []byte {
	n := int(d.u16())
	if d.err == nil && n > max {
		d.err = errLimit
	}
	return d.take(n)
}

func (d *decoder) must(ok bool) {
	if d.err == nil && !ok {
		d.err = errValue
	}
}
