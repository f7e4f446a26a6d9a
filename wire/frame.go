package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// prefixLen is the length word, headLen what every body begins with: version, type, request id.
const (
	prefixLen = 4
	headLen   = 6
)

// What can be wrong with a frame. Errors of this package wrap one of these; CodeOf turns them into an answer.
var (
	ErrFrameSize   = errors.New("frame size out of range")          // the length word, or a message that needs more than MaxFrame
	ErrTruncated   = errors.New("frame ends inside a field")        //
	ErrTrailing    = errors.New("bytes after the last field")       //
	ErrVersion     = errors.New("wrong version byte")               // of none that we know, or not that of the type
	ErrType        = errors.New("unknown message type")             //
	ErrRequest     = errors.New("request id does not fit the type") // 0 for a request or an answer, or not 0 for Lost
	ErrLimit       = errors.New("longer than the limit")            // a string, or a list's count
	ErrValue       = errors.New("value out of range")               // an enum, a bool, a number, a time
	ErrCombination = errors.New("fields that exclude each other")   // each in range, but not together
)

// CodeOf gives the code that a server answers with to a frame that BodyLen or Parse refused with err.
func CodeOf(err error) Code {
	switch {
	case errors.Is(err, ErrFrameSize):
		return CodeLimit
	case errors.Is(err, ErrVersion):
		return CodeVersion
	case errors.Is(err, ErrType):
		return CodeUnsupported
	}
	return CodeInvalid
}

// Append appends the whole frame of m, length word included, to dst. It refuses what Parse would refuse, and then
// returns dst as it was. It keeps no reference to m.
func Append(dst []byte, request uint32, m Message) ([]byte, error) {
	t := typeOf(m)
	if !requestFits(t, request) {
		return dst, fmt.Errorf("append %s: request id %d: %w", t, request, ErrRequest)
	}
	e := encoder{buf: begin(dst, request, t)}
	e.message(m)
	return e.end(len(dst), t)
}

// begin appends the head of a frame; end fills in its length.
func begin(dst []byte, request uint32, t Type) []byte {
	dst = append(dst, 0, 0, 0, 0, t.Version(), byte(t))
	return binary.BigEndian.AppendUint32(dst, request)
}

// end closes the frame that starts at start.
func (e *encoder) end(start int, t Type) ([]byte, error) {
	n := len(e.buf) - start - prefixLen
	if e.err == nil && n > MaxFrame {
		e.err = fmt.Errorf("%d bytes: %w", n, ErrFrameSize)
	}
	if e.err != nil {
		return e.buf[:start], fmt.Errorf("append %s: %w", t, e.err)
	}
	binary.BigEndian.PutUint32(e.buf[start:], uint32(n))
	return e.buf, nil
}

// Parse reads one frame without its length word. Strings are copied: body may be reused. The request id is returned
// with an error too, whenever body is long enough to have one, so that the error can be answered.
func Parse(body []byte) (request uint32, m Message, err error) {
	if len(body) < headLen || len(body) > MaxFrame {
		return 0, nil, fmt.Errorf("parse frame of %d bytes: %w", len(body), ErrFrameSize)
	}
	t := Type(body[1])
	request = binary.BigEndian.Uint32(body[2:])
	if body[0] < FirstVersion || body[0] > Version {
		return request, nil, fmt.Errorf("parse frame of version %d: %w", body[0], ErrVersion)
	}
	if !t.known() {
		return request, nil, fmt.Errorf("parse frame of type 0x%02x: %w", byte(t), ErrType)
	}
	if body[0] != t.Version() {
		return request, nil, fmt.Errorf("parse %s of version %d: %w", t, body[0], ErrVersion)
	}
	if !requestFits(t, request) {
		return request, nil, fmt.Errorf("parse %s: request id %d: %w", t, request, ErrRequest)
	}
	d := decoder{rest: body[headLen:]}
	m = d.message(t)
	if d.err == nil && len(d.rest) > 0 {
		d.err = fmt.Errorf("%d: %w", len(d.rest), ErrTrailing)
	}
	if d.err != nil {
		return request, nil, fmt.Errorf("parse %s: %w", t, d.err)
	}
	return request, m, nil
}

// requestFits: id 0 says "this answers no request". Lost always has it, an Error that ends the connection may.
func requestFits(t Type, request uint32) bool {
	switch t {
	case TypeLost:
		return request == 0
	case TypeError, TypeAltered:
		return true
	}
	return request != 0
}

// BodyLen reads a length word. The error wraps ErrFrameSize: nothing has been allocated yet, and nothing should be.
func BodyLen(prefix [4]byte) (int, error) {
	n := binary.BigEndian.Uint32(prefix[:])
	if n < headLen || n > MaxFrame {
		return 0, fmt.Errorf("frame of %d bytes: %w", n, ErrFrameSize)
	}
	return int(n), nil
}

// ReadFrame reads one frame and returns its body, in buf when that is big enough. io.EOF means that the stream ended
// between two frames, io.ErrUnexpectedEOF that it ended inside one. It reads not a byte more than the frame.
func ReadFrame(r io.Reader, buf []byte) (body []byte, err error) {
	if cap(buf) < prefixLen {
		buf = make([]byte, 512)
	}
	prefix := buf[:prefixLen]
	if _, err := io.ReadFull(r, prefix); err != nil {
		return nil, err
	}
	n, err := BodyLen([4]byte(prefix))
	if err != nil {
		return nil, err
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	body = buf[:n]
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body, nil
}
