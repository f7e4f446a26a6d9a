package client

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

// What becomes of requests whose connection breaks.

func TestWhatIsAskedMeanwhileIsSentWhenTheServerIsBack(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a"}}, 4)
		h.deaf.Store(true)
		s.conn.Close()
		synctest.Wait()
		lock := startLock(t.Context(), c, Request{Paths: []string{"/b"}})
		synctest.Wait()
		unlock := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
		synctest.Wait()
		h.deaf.Store(false)
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		s.resumes(firstSession, 4)
		id, _ := expect[*wire.Lock](s)
		s.say(id, grants(5))
		s.frees(4)
		if got := <-lock; got.err != nil {
			t.Error("Lock:", got.err)
		}
		if got := <-unlock; got.err != nil {
			t.Error("Unlock:", got.err)
		}
		if loss, ok := <-l.Lost(); ok {
			t.Errorf("Lost gave %v", loss)
		}
	})
}

func TestATimeoutGoesOnDuringAnOutage(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		waits := startLock(t.Context(), c, Request{Paths: []string{"/a"}, Timeout: time.Minute})
		short := startLock(t.Context(), c, Request{Paths: []string{"/b"}, Timeout: 5 * time.Second})
		for range 2 {
			expect[*wire.Lock](s)
		}
		for _, want := range [][]time.Duration{{0, 50 * time.Second}, {0, 40 * time.Second}} {
			s.conn.Close()
			<-time.After(10 * time.Second) // virtual
			s = h.accept()
			s.welcomeAs(wire.Version, 8)
			s.resumes(firstSession)
			var got []time.Duration
			for range 2 {
				id, m := expect[*wire.Lock](s)
				got = append(got, m.Timeout)
				if want[1] == 40*time.Second {
					s.say(id, &wire.Error{Code: wire.CodeTimeout})
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("timeouts of those sent again: %v, want %v", got, want)
			}
		}
		<-waits
		<-short
	})
}

func TestAListBeginsAnew(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		row := func(id uint64) wire.Row {
			return wire.Row{Kind: wire.RowHolder, ID: id, Path: "/a", Mode: wire.Exclusive, Rests: wire.RestOFD, Life: wire.Attached}
		}
		done := start(func() ([]Row, error) { return c.List(t.Context(), true) })
		id, _ := expect[*wire.List](s)
		s.say(id, &wire.Rows{More: true, Rows: []wire.Row{row(1), row(2)}})
		s = h.revive(s)
		expect[*wire.List](s)
		s.say(id, &wire.Rows{More: true, Rows: []wire.Row{row(1)}})
		s.say(id, &wire.Rows{Rows: []wire.Row{row(3)}})
		if got := <-done; got.err != nil || len(got.value) != 2 || got.value[0].ID != 1 || got.value[1].ID != 3 {
			t.Errorf("List = %+v", got)
		}
	})
}

func TestAWatchGoesOnAndLooksAgain(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		calls, enough := make(chan bool), errors.New("enough")
		done := start(func() (bool, error) {
			return true, c.Watch(t.Context(), func() error {
				if !<-calls {
					return enough
				}
				return nil
			})
		})
		id, _ := expect[*wire.Watch](s)
		calls <- true // once as it begins
		s = h.revive(s)
		if again, _ := expect[*wire.Watch](s); again != id {
			t.Errorf("request %d is sent again as %d", id, again)
		}
		calls <- true // for what changed meanwhile
		s.say(id, &wire.Changed{})
		calls <- false
		bye, m := expect[*wire.Cancel](s)
		if m.Target != id {
			t.Errorf("Cancel names %d, want %d", m.Target, id)
		}
		s.say(bye, &wire.Done{})
		if got := <-done; got.err != enough {
			t.Errorf("Watch = %v", got.err)
		}
	})
}

func TestWhereAWaitingLockStandsIsAskedAgain(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		places := make(chan uint32, 9)
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}, Refresh: time.Second, OnQueued: func(q Queue) { places <- q.Position }})
		id, _ := expect[*wire.Lock](s)
		s.say(id, &wire.Queued{Position: 3})
		<-places
		where, _ := expect[*wire.Where](s)
		s = h.revive(s)
		s.resumes(firstSession)
		expect[*wire.Lock](s)
		again, m := expect[*wire.Where](s)
		if again != where || m.Target != id {
			t.Errorf("request %d is sent again as %d, about %d", where, again, m.Target)
		}
		s.say(where, &wire.Queued{Position: 2})
		if p := <-places; p != 2 {
			t.Errorf("position %d, want 2", p)
		}
		s.say(id, grants(4))
		<-done
	})
}

func TestABreakByPathIsNotSentAgain(t *testing.T) {
	hosted(t, func(t *testing.T, h *host, c *Client, s *fake) {
		byPath := start(func() ([]uint64, error) { return c.BreakPath(t.Context(), "/a", "r") })
		expect[*wire.Break](s)
		byID := start(func() ([]uint64, error) { return c.BreakID(t.Context(), 9, "r") })
		expect[*wire.Break](s)
		h.deaf.Store(true)
		s.conn.Close()
		synctest.Wait()
		later := start(func() ([]uint64, error) { return c.BreakPath(t.Context(), "/b", "r") })
		synctest.Wait()
		h.deaf.Store(false)
		s = h.accept()
		s.welcomeAs(wire.Version, 8)
		if got := <-byPath; CodeOf(got.err) != CodeShutdown {
			t.Errorf("BreakPath = %+v, want CodeShutdown", got)
		}
		id, m := expect[*wire.Break](s)
		if m.ID != 9 {
			t.Errorf("sent again: %+v", m)
		}
		s.say(id, &wire.Released{IDs: []uint64{9}})
		id, m = expect[*wire.Break](s)
		if m.Path != "/b" {
			t.Errorf("sent at last: %+v", m)
		}
		s.say(id, &wire.Released{IDs: []uint64{10}})
		<-byID
		<-later
		s.silent()
	})
}
