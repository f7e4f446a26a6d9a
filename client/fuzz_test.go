package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

// FuzzNoReturningLockerdCrashesTheClient feeds whatever bytes to a client with requests of every kind under way, whose
// connection then ends, and more to the next connection: in place of Welcome, or behind it.
func FuzzNoReturningLockerdCrashesTheClient(f *testing.F) {
	frame := func(id uint32, m wire.Message) []byte {
		b, err := wire.Append(nil, id, m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	welcome := frame(1, &wire.Welcome{Version: 2, Session: 9})
	f.Add(frame(2, grants(1, 2)), append(welcome, frame(1, &wire.Resumed{IDs: []uint64{2}})...))
	f.Add(frame(2, &wire.Queued{Position: 1}), append(welcome, frame(1, &wire.Error{Code: wire.CodeLost})...))
	f.Add(frame(0, &wire.Lost{ID: 1, Cause: wire.Broken}), append(append(welcome, frame(1, &wire.Resumed{})...), frame(2, grants(1, 2))...))
	f.Add([]byte{}, frame(0, &wire.Error{Code: wire.CodeLimit}))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		synctest.Test(t, func(t *testing.T) {
			script := [][]byte{append(frame(1, &wire.Welcome{Version: 2, Session: firstSession}), first...), second}
			open := func(context.Context) (net.Conn, error) {
				if len(script) == 0 {
					return nil, fmt.Errorf("%w: there is no third", ErrUnreachable)
				}
				ours, theirs := net.Pipe()
				say := script[0]
				script = script[1:]
				go io.Copy(io.Discard, theirs)
				go func() {
					theirs.Write(say)
					<-time.After(time.Second) // virtual: it reads all that the client has to say
					theirs.Close()
				}()
				return ours, nil
			}
			c, err := Dial(t.Context(), "host", at(open))
			if err != nil {
				return // the first bytes may be a bad end of the Welcome
			}
			done := startLock(t.Context(), c, Request{Paths: []string{"/a", "/b"}, Refresh: time.Millisecond, OnQueued: func(Queue) {}})
			list := start(func() ([]Row, error) { return c.List(t.Context(), true) })
			watch := start(func() (bool, error) { return true, c.Watch(t.Context(), func() error { return nil }) })
			<-time.After(10 * time.Second) // virtual
			c.Close()
			<-done
			<-list
			<-watch
		})
	})
}
