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

func TestAnswersOutOfOrderReachWhoAsked(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		const n = 40
		var done []<-chan result[bool]
		for i := range uint64(n) {
			done = append(done, start(func() (bool, error) { return c.UnlockID(t.Context(), i+1) }))
		}
		asked := map[uint64]uint32{}
		for range n {
			id, m := expect[*wire.Unlock](s)
			asked[m.ID] = id
		}
		for hold, id := range asked { // in no order
			answer := &wire.Released{}
			if hold%2 == 0 {
				answer.IDs = []uint64{hold}
			}
			s.say(id, answer)
		}
		for i, d := range done {
			if got := <-d; got.err != nil || got.value != ((i+1)%2 == 0) {
				t.Errorf("UnlockID(%d) = %+v", i+1, got)
			}
		}
	})
}

func TestRequestWhoseContextEndsLeavesNothingBehind(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := start(func() (*Status, error) { return c.Status(ctx) })
		id, _ := expect[*wire.Status](s)
		if got := <-done; got.err != context.DeadlineExceeded {
			t.Errorf("Status = %v", got.err)
		}
		if n := pending(c); n != 0 {
			t.Errorf("%d calls are left over", n)
		}
		s.say(id, &wire.StatusReply{}) // too late, and nobody minds
		again := start(func() (*Status, error) { return c.Status(t.Context()) })
		id, _ = expect[*wire.Status](s)
		s.say(id, &wire.StatusReply{Holds: 3})
		if got := <-again; got.err != nil || got.value.Holds != 3 {
			t.Errorf("Status = %+v", got)
		}
	})
}

func TestLockerdThatDoesNotReadHoldsNobodyBeyondHisContext(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		first, stopFirst := context.WithTimeout(t.Context(), 2*time.Second)
		defer stopFirst()
		second, stopSecond := context.WithTimeout(t.Context(), time.Second)
		defer stopSecond()
		writes := start(func() (*Status, error) { return c.Status(first) })
		synctest.Wait()
		waits := start(func() (*Status, error) { return c.Status(second) }) // for the first to have written
		for _, d := range []<-chan result[*Status]{waits, writes} {
			if got := <-d; got.err != context.DeadlineExceeded {
				t.Errorf("Status = %v, want context.DeadlineExceeded", got.err)
			}
		}
		// The first was on its way, the second was not sent at all; the connection is as good as before.
		done := start(func() (*Status, error) { return c.Status(t.Context()) })
		expect[*wire.Status](s)
		id, _ := expect[*wire.Status](s)
		s.say(id, &wire.StatusReply{})
		if got := <-done; got.err != nil {
			t.Error("Status:", got.err)
		}
	})
}

func TestContextThatEndsInTheMiddleOfAFrameLeavesTheFrameWhole(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		done := start(func() (*Status, error) { return c.Status(ctx) })
		var one [1]byte
		s.conn.Read(one[:]) // of the frame, and no more
		cancel()
		if got := <-done; got.err != context.Canceled {
			t.Errorf("Status = %v", got.err)
		}
		rest := make([]byte, 9)
		if _, err := io.ReadFull(s.conn, rest); err != nil {
			t.Error("the rest of the frame:", err)
		}
		again := start(func() (*Status, error) { return c.Status(t.Context()) })
		id, _ := expect[*wire.Status](s)
		s.say(id, &wire.StatusReply{})
		if got := <-again; got.err != nil {
			t.Error("the next Status:", got.err)
		}
	})
}

func TestErrorAboutTheConnectionReachesEverybody(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 1)
		done := start(func() (*Status, error) { return c.Status(t.Context()) })
		expect[*wire.Status](s)
		s.say(0, &wire.Error{Code: wire.CodeLimit, Text: "too slow"})
		if got := <-done; CodeOf(got.err) != CodeLimit {
			t.Errorf("Status = %v, want CodeLimit", got.err)
		}
		if loss := <-l.Lost(); loss.Cause != Disconnected || CodeOf(loss) != CodeLimit {
			t.Errorf("loss %+v", loss)
		}
	})
}

func TestNonsenseFromLockerdEndsTheConnection(t *testing.T) {
	head := []byte{0, 0, 0, 6, wire.FirstVersion}
	tests := map[string]func(s *fake, id uint32){
		"length 0":              func(s *fake, id uint32) { s.conn.Write([]byte{0, 0, 0, 0}) },
		"length too great":      func(s *fake, id uint32) { s.conn.Write([]byte{1, 0, 0, 0}) },
		"unknown type":          func(s *fake, id uint32) { s.conn.Write(append(head, 0xff, 0, 0, 0, 1)) },
		"half a frame":          func(s *fake, id uint32) { s.conn.Write(head); s.conn.Close() },
		"event of another type": func(s *fake, id uint32) { s.conn.Write(append(head, byte(wire.TypeDone), 0, 0, 0, 0)) },
		"grant of nothing":      func(s *fake, id uint32) { s.say(id, grants(1)) },
	}
	for name, talk := range tests {
		bubble(t, func(t *testing.T, c *Client, s *fake) {
			done := start(func() (*Status, error) { return c.Status(t.Context()) })
			id, _ := expect[*wire.Status](s)
			talk(s, id)
			if got := <-done; got.err == nil {
				t.Errorf("%s: Status = %+v, want an error", name, got.value)
			}
			<-c.done
		})
	}
}

func TestAnswerOfTheWrongTypeIsAnError(t *testing.T) {
	asks := map[string]func(ctx context.Context, c *Client) error{
		"Status": func(ctx context.Context, c *Client) error { _, err := c.Status(ctx); return err },
		"Reload": func(ctx context.Context, c *Client) error { _, err := c.Reload(ctx); return err },
		"Rules":  func(ctx context.Context, c *Client) error { _, err := c.Rules(ctx); return err },
		"List":   func(ctx context.Context, c *Client) error { _, err := c.List(ctx, true); return err },
		"Unlock": func(ctx context.Context, c *Client) error { _, err := c.UnlockAll(ctx); return err },
		"Watch":  func(ctx context.Context, c *Client) error { return c.Watch(ctx, func() error { return nil }) },
		"Lock": func(ctx context.Context, c *Client) error {
			_, err := c.Lock(ctx, Request{Paths: []string{"/a"}})
			return err
		},
		"Explain": func(ctx context.Context, c *Client) error {
			_, err := c.Explain(ctx, Query{User: "u", Action: "lock", Path: "/a"})
			return err
		},
	}
	for name, ask := range asks {
		bubble(t, func(t *testing.T, c *Client, s *fake) {
			done := start(func() (bool, error) { return true, ask(t.Context(), c) })
			id, _ := s.next()
			s.say(id, &wire.Done{})
			if got := <-done; CodeOf(got.err) != CodeInternal {
				t.Errorf("%s = %v, want CodeInternal", name, got.err)
			}
		})
	}
}

func TestManyLocksComeAndGoWithoutATrace(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		for i := range uint64(100) {
			l := held(t, c, s, Request{Paths: []string{fmt.Sprint("/", i)}}, i+1)
			done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
			id, _ := expect[*wire.Unlock](s)
			s.say(id, &wire.Released{IDs: []uint64{i + 1}})
			<-done
		}
		if len(c.holds) != 0 || len(c.calls) != 0 || len(c.early) != 0 {
			t.Errorf("left over: %v %v %v", c.holds, c.calls, c.early)
		}
	})
}

// FuzzNoLockerdCrashesTheClient feeds whatever bytes to a client with requests of every kind under way.
func FuzzNoLockerdCrashesTheClient(f *testing.F) {
	seed := func(parts ...[]byte) {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		f.Add(all)
	}
	frame := func(id uint32, m wire.Message) []byte {
		b, err := wire.Append(nil, id, m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	seed(frame(2, grants(1)), frame(0, &wire.Lost{ID: 1, Cause: wire.Broken}), frame(3, &wire.Rows{More: true}), frame(3, &wire.Rows{}))
	seed(frame(2, &wire.Queued{Position: 1}), frame(4, &wire.Changed{}), frame(4, &wire.Error{Code: wire.CodeCanceled}))
	seed(frame(0, &wire.Lost{ID: 9, Cause: wire.Stopped}), frame(2, grants(9, 9)), frame(0, &wire.Error{Code: wire.CodeShutdown}))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		s := &fake{t, theirs}
		go func() {
			s.welcome()
			buf := make([]byte, 4096)
			for {
				if _, err := theirs.Read(buf); err != nil {
					return
				}
			}
		}()
		c, err := New(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		k := newCall()
		k.request = &Request{Paths: []string{"/a", "/b"}}
		c.send(k, &wire.Lock{Mode: wire.Exclusive, Wait: wire.Block, Life: wire.Attached, Paths: k.request.Paths})
		asks := []<-chan result[bool]{
			start(func() (bool, error) { _, err := c.List(ctx, true); return true, err }),
			start(func() (bool, error) { return true, c.Watch(ctx, func() error { return nil }) }),
		}
		theirs.Write(data)
		theirs.Close()
		for _, a := range asks {
			<-a
		}
		cancel()
		c.Close()
	})
}
