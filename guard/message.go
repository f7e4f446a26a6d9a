package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// kind says which message it is. doc.go has the layouts.
type kind uint8

const (
	kindDeny       kind = 0x01
	kindGuard      kind = 0x02
	kindLift       kind = 0x03
	kindPing       kind = 0x04
	kindAnswer     kind = 0x81
	kindRefused    kind = 0x82
	kindFailedOpen kind = 0x83
)

// code is how a request ended. 0 is none, so that nothing is taken for done that nobody has said.
type code uint8

const (
	codeOK          code = iota + 1
	codeUnavailable      // the kernel, or the capabilities, do not allow it
	codeRoom             // more directories than there are descriptors for
	codeHeld             // the id guards something already
	codeUnfit            // a descriptor of something that cannot be guarded
	codeOrder            // Deny not first, or not once
	lastCode        = codeOrder
)

const (
	// MaxDirs is how many directories one Guard may have.
	MaxDirs = 16
	// MaxPaths is how many programs may be denied.
	MaxPaths = 64

	maxPath = 4095 // bytes
	maxText = 255  // bytes

	version    = 1
	headSize   = 4 // bytes: version, kind, set, zero
	sumSize    = 4 // bytes
	maxMessage = 16 << 10

	isGuarded = 1 // in set of FailedOpen
)

// message is any of them; doc.go says which has which fields.
type message struct {
	kind   kind
	set    uint8
	number uint32 // of a request and its answer
	id     uint64
	paths  []string
	code   code
	pid    uint32
	count  uint32
	text   string // a reason, or an executable
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
	case kindDeny:
		b = binary.BigEndian.AppendUint32(b, m.number)
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.paths)))
		for _, path := range m.paths {
			b = appendText(b, path)
		}
	case kindGuard, kindLift:
		b = binary.BigEndian.AppendUint32(b, m.number)
		b = binary.BigEndian.AppendUint64(b, m.id)
	case kindPing:
		b = binary.BigEndian.AppendUint32(b, m.number)
	case kindAnswer:
		b = binary.BigEndian.AppendUint32(b, m.number)
		b = append(b, byte(m.code))
		b = appendText(b, m.text)
	case kindRefused:
		b = binary.BigEndian.AppendUint64(b, m.id)
		b = binary.BigEndian.AppendUint32(b, m.pid)
		b = binary.BigEndian.AppendUint32(b, m.count)
		b = appendText(b, m.text)
	case kindFailedOpen:
		b = appendText(b, m.text)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func appendText(b []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
}

// parseMessage reads a whole datagram into m.
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
	most := uint8(0) // that set may be
	switch m.kind {
	case kindDeny:
		m.number = d.number()
		m.paths = d.paths()
	case kindGuard:
		m.number = d.number()
		m.id = d.u64()
		d.must(m.id != 0 && m.set != 0)
		most = MaxDirs
	case kindLift:
		m.number = d.number()
		m.id = d.u64()
		d.must(m.id != 0)
	case kindPing:
		m.number = d.number()
	case kindAnswer:
		m.number = d.number()
		m.code = code(d.u8())
		m.text = d.text(maxText)
		d.must(m.code != 0 && m.code <= lastCode)
	case kindRefused:
		m.id = d.u64()
		m.pid = d.u32()
		m.count = d.u32()
		m.text = d.text(maxPath)
		d.must(m.count != 0 && m.pid < 1<<31)
	case kindFailedOpen:
		m.text = d.text(maxText)
		most = isGuarded
	default:
		return fmt.Errorf("%w %#x", errKind, b[1])
	}
	d.must(m.set <= most && b[3] == 0)
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
	if m.kind != kindGuard {
		return 0
	}
	return int(m.set)
}
