package broker

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"locker/guard"
)

// What a broker asks of a guard: kinds of package guard's messages.
const (
	asksDeny  = 0x01
	asksGuard = 0x02
	asksLift  = 0x03
)

// puppet is a guard that guards nothing. It does as answer says: whether it answers, or ends the connection.
func puppet(t *testing.T, answer func(kind byte) bool) (dial func(context.Context) (*guard.Conn, error)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "g")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	must(t, err)
	ended := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			play := func() {
				defer conn.Close()
				buf, rights := make([]byte, 1<<16), make([]byte, 1<<10)
				for {
					n, rn, _, _, err := conn.ReadMsgUnix(buf, rights)
					if err != nil || n < 8 {
						return
					}
					closeRights(rights[:rn])
					if !answer(buf[1]) {
						return
					}
					done := append([]byte{1, 0x81, 0, 0}, buf[4:8]...) // of the request with this number
					done = append(done, 1, 0, 0)
					done = binary.BigEndian.AppendUint32(done, crc32.Checksum(done, crc32.MakeTable(crc32.Castagnoli)))
					if _, err := conn.Write(done); err != nil {
						return
					}
				}
			}
			play()
		}
	}()
	return func(ctx context.Context) (*guard.Conn, error) { return guard.Dial(ctx, path) }
}

func closeRights(oob []byte) {
	messages, _ := unix.ParseSocketControlMessage(oob)
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}
