package client

import (
	"context"
	"errors"
	"net"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

func TestLockAsksForWhatTheRequestSays(t *testing.T) {
	tests := []struct {
		name string
		req  Request
		want wire.Lock
	}{
		{"only paths", Request{Paths: []string{"/a"}},
			wire.Lock{Mode: wire.Exclusive, Wait: wire.Block, Life: wire.Attached, Paths: []string{"/a"}}},
		{"shared, not waiting", Request{Paths: []string{"/a", "/b"}, Mode: Shared, NoWait: true, Grace: time.Second, Reason: "r"},
			wire.Lock{Mode: wire.Shared, Wait: wire.NonBlock, Life: wire.Attached, Grace: time.Second, Reason: "r", Paths: []string{"/a", "/b"}}},
		{"detached", Request{Paths: []string{"/a"}, Timeout: time.Minute, Detached: true, TTL: time.Hour, Tag: "t"},
			wire.Lock{Mode: wire.Exclusive, Wait: wire.Timed, Timeout: time.Minute, Life: wire.Detached, TTL: time.Hour, Tag: "t", Paths: []string{"/a"}}},
		{"idle", Request{Paths: []string{"/a"}, Idle: true},
			wire.Lock{Mode: wire.Idle, Wait: wire.Block, Life: wire.Attached, Paths: []string{"/a"}}},
	}
	for _, tt := range tests {
		bubble(t, func(t *testing.T, c *Client, s *fake) {
			done := startLock(t.Context(), c, tt.req)
			id, m := expect[*wire.Lock](s)
			if !reflect.DeepEqual(*m, tt.want) {
				t.Errorf("%s: lockerd got %+v, want %+v", tt.name, *m, tt.want)
			}
			s.say(id, &wire.Error{Code: wire.CodeDenied})
			<-done
		})
	}
}

func TestALockerdThatIsTooOldIsNotAskedForAnIdleFile(t *testing.T) {
	for version := uint8(wire.FirstVersion); version < 3; version++ {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			s := &fake{t, theirs}
			go s.welcomeAs(version, firstSession)
			c, err := New(t.Context(), ours)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Lock(t.Context(), Request{Paths: []string{"/a"}, Idle: true}); CodeOf(err) != CodeUnsupported {
				t.Errorf("version %d: got %v", version, err)
			}
			done := startLock(t.Context(), c, Request{Paths: []string{"/a"}}) // as ever
			id, m := expect[*wire.Lock](s)
			if m.Mode != wire.Exclusive {
				t.Errorf("version %d: asked for %v", version, m.Mode)
			}
			s.say(id, &wire.Error{Code: wire.CodeDenied})
			<-done
		})
	}
	k := newCall() // it was newer when it was asked, and is asked again
	k.asked, k.sent = &wire.Lock{Mode: wire.Idle, Wait: wire.Block, Life: wire.Attached, Paths: []string{"/a"}}, true
	if e, ok := k.repeat(true, 2).(*wire.Error); !ok || e.Code != wire.CodeUnsupported {
		t.Errorf("asked again: %+v", e)
	}
	if m := k.repeat(true, 3); m != nil {
		t.Errorf("asked again in its version: %+v", m)
	}
}

func TestRequestsThatCannotBeMeantNeverReachLockerd(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		for _, req := range []Request{
			{},
			{Paths: []string{"/a"}, NoWait: true, Timeout: 1},
			{Paths: []string{"/a"}, Timeout: -1},
			{Paths: []string{"/a"}, Mode: Shared, Idle: true},
			{Paths: []string{"/a"}, TTL: time.Hour},
			{Paths: []string{"/a"}, Grace: time.Hour},
			{Paths: []string{string(make([]byte, wire.MaxPath+1))}},
			{Paths: make([]string, wire.MaxPaths+1)},
		} {
			if _, err := c.Lock(t.Context(), req); CodeOf(err) != CodeInvalid {
				t.Errorf("Lock(%+v) = %v, want an *Error with CodeInvalid", req, err)
			}
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Lock(gone, Request{Paths: []string{"/a"}}); err != context.Canceled {
			t.Errorf("Lock with a context that has ended = %v", err)
		}
		s.silent()
	})
}

func TestGrantedLockTellsTokensAndWhatItRestsOn(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		done := startLock(t.Context(), c, Request{Paths: []string{"/a", "/b", "/a"}})
		id, _ := expect[*wire.Lock](s)
		until := time.Unix(99, 0)
		s.say(id, &wire.Granted{Grants: []wire.Grant{
			{ID: 9, Rests: wire.RestOFD | wire.RestFlock}, {ID: 4, Already: true, Rests: wire.RestFlock, Expires: until}, {ID: 9, Rests: wire.RestOFD | wire.RestFlock},
		}})
		l := (<-done).value
		if got := l.Tokens(); !reflect.DeepEqual(got, []uint64{9, 4, 9}) {
			t.Errorf("Tokens = %v", got)
		}
		if l.Token() != 9 {
			t.Errorf("Token = %d, want the greatest", l.Token())
		}
		if l.Rests() != wire.RestFlock {
			t.Errorf("Rests = %v, want what all rest on", l.Rests().Names())
		}
		if h := l.Holds()[1]; h.Path != "/b" || !h.Already || !h.Expires.Equal(until) {
			t.Errorf("Holds[1] = %+v", h)
		}
	})
}

func TestRefusedLockTellsWhoIsInTheWay(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}, NoWait: true})
		id, _ := expect[*wire.Lock](s)
		s.say(id, &wire.Error{Code: wire.CodeBusy, Path: "/a", Text: "in use", Blockers: []wire.Blocker{{Kind: wire.Holder, User: "alice"}}})
		err := (<-done).err
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBusy || e.Path != "/a" || len(e.Blockers) != 1 || e.Blockers[0].User != "alice" {
			t.Errorf("Lock = %#v", err)
		}
	})
}

func TestWaitingLockTellsItsPlaceAndAsksAgain(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		heard := make(chan uint32)
		done := startLock(t.Context(), c, Request{
			Paths: []string{"/a"}, Refresh: time.Second, OnQueued: func(q Queue) { heard <- q.Position },
		})
		id, _ := expect[*wire.Lock](s)
		s.say(id, &wire.Queued{Position: 3})
		if p := <-heard; p != 3 {
			t.Errorf("position %d, want 3", p)
		}
		for want := range uint32(2) {
			where, m := expect[*wire.Where](s)
			if m.Target != id {
				t.Errorf("Where asks about %d, want %d", m.Target, id)
			}
			s.say(where, &wire.Queued{Position: want + 1})
			if p := <-heard; p != want+1 {
				t.Errorf("position %d, want %d", p, want+1)
			}
		}
		where, _ := expect[*wire.Where](s)
		s.say(id, grants(5))
		if got := <-done; got.err != nil || got.value.Token() != 5 {
			t.Errorf("Lock = %+v", got)
		}
		s.say(where, &wire.Error{Code: wire.CodeInvalid}) // asked too late, and nobody minds
		if n := pending(c); n != 0 {
			t.Errorf("%d calls are left over", n)
		}
	})
}

// pending counts the requests that the client waits for, when all that it was told has arrived.
func pending(c *Client) int {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

func TestCanceledLockLeavesTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		done := startLock(ctx, c, Request{Paths: []string{"/a"}})
		id, _ := expect[*wire.Lock](s)
		cancel()
		bye, m := expect[*wire.Cancel](s)
		if m.Target != id {
			t.Errorf("Cancel names %d, want %d", m.Target, id)
		}
		s.say(id, &wire.Error{Code: wire.CodeCanceled})
		s.say(bye, &wire.Done{})
		if err := (<-done).err; err != context.Canceled {
			t.Errorf("Lock = %v, want context.Canceled", err)
		}
		if n := pending(c); n != 0 {
			t.Errorf("%d calls are left over", n)
		}
	})
}

func TestGrantThatCrossesTheCancelIsReleased(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := startLock(ctx, c, Request{Paths: []string{"/a", "/b"}, Detached: true})
		id, _ := expect[*wire.Lock](s)
		bye, _ := expect[*wire.Cancel](s)
		g := grants(5, 4)
		g.Grants[1].Already = true // was ours before: stays ours
		s.say(id, g)
		s.say(bye, &wire.Done{})
		free, m := expect[*wire.Unlock](s)
		if m.By != wire.ByID || m.ID != 5 {
			t.Errorf("the client releases %+v, want id 5", m)
		}
		select {
		case got := <-done:
			t.Errorf("Lock = %+v before the release is sure", got)
		default:
		}
		s.say(free, &wire.Released{IDs: []uint64{5}})
		if err := (<-done).err; err != context.DeadlineExceeded {
			t.Errorf("Lock = %v, want context.DeadlineExceeded", err)
		}
		if len(c.holds) != 0 {
			t.Errorf("holds are left over: %v", c.holds)
		}
	})
}

func TestGrantLongAfterTheCancelIsReleasedToo(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		ctx, cancel := context.WithCancel(t.Context())
		done := startLock(ctx, c, Request{Paths: []string{"/a"}})
		id, _ := expect[*wire.Lock](s)
		cancel()
		before := time.Now()
		expect[*wire.Cancel](s)
		if err := (<-done).err; err != context.Canceled {
			t.Errorf("Lock = %v, want context.Canceled", err)
		}
		if d := time.Since(before); d != settle {
			t.Errorf("Lock came back after %v, want %v", d, settle)
		}
		s.say(id, grants(5))
		free, m := expect[*wire.Unlock](s)
		if m.ID != 5 {
			t.Errorf("the client releases %+v, want id 5", m)
		}
		s.say(free, &wire.Released{IDs: []uint64{5}})
		synctest.Wait()
		if len(c.holds) != 0 {
			t.Errorf("holds are left over: %v", c.holds)
		}
	})
}

func TestLockInFlightLearnsThatLockerdWentAway(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}})
		expect[*wire.Lock](s)
		s.conn.Close()
		if err := (<-done).err; !errors.Is(err, ErrUnreachable) {
			t.Errorf("Lock = %v, want ErrUnreachable", err)
		}
		if _, err := c.Lock(t.Context(), Request{Paths: []string{"/a"}}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("the next Lock = %v, want ErrUnreachable", err)
		}
	})
}

func TestUnlockReleasesEveryFileOnceAndIsIdempotent(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a", "/b", "/a"}}, 1, 2, 1)
		done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
		freed := map[uint64]bool{}
		var ids []uint32
		for range 2 {
			id, m := expect[*wire.Unlock](s)
			freed[m.ID] = true
			ids = append(ids, id)
		}
		if !freed[1] || !freed[2] {
			t.Errorf("released %v, want 1 and 2", freed)
		}
		s.say(ids[1], &wire.Released{IDs: []uint64{1, 2}})
		s.say(ids[0], &wire.Released{IDs: []uint64{1, 2}})
		if got := <-done; got.err != nil {
			t.Error("Unlock:", got.err)
		}
		if loss, ok := <-l.Lost(); ok {
			t.Errorf("Lost gave %v after Unlock, want a closed channel", loss)
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Error("second Unlock:", err)
		}
		s.silent()
	})
}

func TestUnlockSaysWhenTheLockHadEndedUnseen(t *testing.T) {
	for _, answer := range []wire.Message{&wire.Released{}, &wire.Released{IDs: []uint64{0}}, &wire.Error{Code: wire.CodeNotFound}} {
		bubble(t, func(t *testing.T, c *Client, s *fake) {
			l := held(t, c, s, Request{Paths: []string{"/a"}, Detached: true}, 1)
			done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
			id, _ := expect[*wire.Unlock](s)
			s.say(id, answer)
			if got := <-done; CodeOf(got.err) != CodeLost {
				t.Errorf("Unlock, answered %#v, = %v, want CodeLost", answer, got.err)
			}
		})
	}
}
