package broker

import (
	"errors"
	"io"
	"net"
	"time"

	"locker/wire"
)

const (
	frameDeadline = 2 * time.Second // from the first byte of a frame to its last
	readBuffer    = 512             // bytes kept for each connection; a larger frame borrows
)

// frameReader cuts frames out of a connection with one small buffer, and borrows for larger frames.
type frameReader struct {
	conn     *net.UnixConn
	patience time.Duration // for a frame that has begun
	buf      []byte        // read, not yet used: buf[start:]
	start    int
	store    [readBuffer]byte
}

// next gives the next frame's body, valid until the next call. Once a frame has begun it must be whole within
// patience; between frames there is no deadline. The deadline of the first frame is the caller's.
func (f *frameReader) next(timed bool) ([]byte, error) {
	armed := false
	for {
		have := f.buf[f.start:]
		if len(have) >= 4 {
			n, err := wire.BodyLen([4]byte(have))
			if err != nil {
				return nil, err
			}
			if len(have) >= 4+n {
				f.start += 4 + n
				if armed {
					f.conn.SetReadDeadline(time.Time{})
				}
				return have[4 : 4+n], nil
			}
			if 4+n > cap(f.buf) {
				grown := make([]byte, len(have), 4+n)
				copy(grown, have)
				f.buf, f.start = grown, 0
			}
		}
		if len(have) == 0 {
			f.buf, f.start = f.store[:0], 0 // a borrowed buffer goes back to the collector
		} else if timed && !armed {
			armed = true
			f.conn.SetReadDeadline(time.Now().Add(f.patience))
		}
		if len(f.buf) == cap(f.buf) { // a frame begins near the end: move it to the front
			f.buf = f.buf[:copy(f.buf, f.buf[f.start:])]
			f.start = 0
		}
		n, err := f.conn.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) && len(f.buf) > f.start {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}
