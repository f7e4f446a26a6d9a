package client

import (
	"errors"
	"net"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

func TestEveryRequestIsAskedAndAnswered(t *testing.T) {
	tests := []struct {
		name   string
		ask    func(t *testing.T, c *Client) (any, error)
		asked  wire.Message
		answer wire.Message
		want   any
	}{
		{"unlock paths", func(t *testing.T, c *Client) (any, error) { return c.UnlockPaths(t.Context(), "t", "/a", "/b") },
			&wire.Unlock{By: wire.ByPath, Tag: "t", Paths: []string{"/a", "/b"}}, &wire.Released{IDs: []uint64{0, 4}}, []uint64{0, 4}},
		{"unlock all", func(t *testing.T, c *Client) (any, error) { return c.UnlockAll(t.Context()) },
			&wire.Unlock{By: wire.ByAll, AnyTag: true}, &wire.Released{IDs: []uint64{4}}, []uint64{4}},
		{"unlock tag", func(t *testing.T, c *Client) (any, error) { return c.UnlockTag(t.Context(), "") },
			&wire.Unlock{By: wire.ByAll}, &wire.Released{}, []uint64(nil)},
		{"unlock id", func(t *testing.T, c *Client) (any, error) { return c.UnlockID(t.Context(), 4) },
			&wire.Unlock{By: wire.ByID, ID: 4}, &wire.Released{IDs: []uint64{4}}, true},
		{"break path", func(t *testing.T, c *Client) (any, error) { return c.BreakPath(t.Context(), "/a", "r") },
			&wire.Break{By: wire.ByPath, Path: "/a", Reason: "r"}, &wire.Released{IDs: []uint64{4}}, []uint64{4}},
		{"break id", func(t *testing.T, c *Client) (any, error) { return c.BreakID(t.Context(), 4, "r") },
			&wire.Break{By: wire.ByID, ID: 4, Reason: "r"}, &wire.Released{IDs: []uint64{4}}, []uint64{4}},
		{"status", func(t *testing.T, c *Client) (any, error) { return c.Status(t.Context()) },
			&wire.Status{}, &wire.StatusReply{Holds: 2}, &Status{Holds: 2}},
		{"reload", func(t *testing.T, c *Client) (any, error) { return c.Reload(t.Context()) },
			&wire.Reload{}, &wire.Reloaded{Lines: []string{"x"}}, []string{"x"}},
		{"rules", func(t *testing.T, c *Client) (any, error) { return c.Rules(t.Context()) },
			&wire.Rules{}, &wire.RulesReply{Rules: []wire.Allowance{{Holds: 1}}}, []Allowance{{Allowance: wire.Allowance{Holds: 1}}}},
		{"explain", func(t *testing.T, c *Client) (any, error) {
			return c.Explain(t.Context(), Query{User: "u", Groups: []string{}, Action: "lock", Path: "/a"})
		}, &wire.Explain{User: "u", HasGroups: true, Action: "lock", Path: "/a"}, &wire.Explained{Allowed: true, By: "x"}, &Explanation{Allowed: true, By: "x"}},
		{"guard", func(t *testing.T, c *Client) (any, error) {
			state, programs, err := c.Guard(t.Context())
			return append(programs, state.String()), err
		}, &wire.Guard{}, &wire.GuardReply{State: wire.GuardDown, Programs: []string{"/usr/sbin/smbd"}}, []string{"/usr/sbin/smbd", "down"}},
	}
	for _, tt := range tests {
		bubble(t, func(t *testing.T, c *Client, s *fake) {
			done := start(func() (any, error) { return tt.ask(t, c) })
			id, m := s.next()
			if !reflect.DeepEqual(m, tt.asked) {
				t.Errorf("%s: lockerd got %+v, want %+v", tt.name, m, tt.asked)
			}
			s.say(id, tt.answer)
			if got := <-done; got.err != nil || !reflect.DeepEqual(got.value, tt.want) {
				t.Errorf("%s = %+v, %v, want %+v", tt.name, got.value, got.err, tt.want)
			}
		})
	}
}

func TestALockerdThatIsTooOldIsNotAskedForItsGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := &fake{t, theirs}
		go s.welcomeAs(3, firstSession)
		c, err := New(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if state, programs, err := c.Guard(t.Context()); state != 0 || programs != nil || err != nil {
			t.Errorf("got %v %q, %v", state, programs, err)
		}
	})
	k := newCall() // it was newer when it was asked, and is asked again
	k.asked, k.sent = &wire.Guard{}, true
	if e, ok := k.repeat(true, 3).(*wire.Error); !ok || e.Code != wire.CodeUnsupported {
		t.Errorf("asked again: %+v", e)
	}
}

func TestListJoinsItsFrames(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		row := func(id uint64) wire.Row {
			return wire.Row{Kind: wire.RowHolder, ID: id, Path: "/a", Mode: wire.Exclusive, Rests: wire.RestOFD, Life: wire.Attached}
		}
		done := start(func() ([]Row, error) { return c.List(t.Context(), true) })
		id, m := expect[*wire.List](s)
		if !m.All {
			t.Error("All was not passed on")
		}
		s.say(id, &wire.Rows{More: true, Rows: []wire.Row{row(1), row(2)}})
		s.say(id, &wire.Rows{More: true})
		s.say(id, &wire.Rows{Rows: []wire.Row{row(3)}})
		got := <-done
		if got.err != nil || len(got.value) != 3 || got.value[2].ID != 3 {
			t.Errorf("List = %+v", got)
		}
	})
}

func TestWatchCallsOnceForManyChangesAndThenSaysGoodbye(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		enough := errors.New("enough")
		called := make(chan int)
		n := 0
		done := start(func() (bool, error) {
			return true, c.Watch(t.Context(), func() error {
				n++
				called <- n
				if n == 3 {
					return enough
				}
				return nil
			})
		})
		id, _ := expect[*wire.Watch](s)
		synctest.Wait() // Watch is in its first call
		for range 5 {
			s.say(id, &wire.Changed{})
		}
		synctest.Wait()
		if <-called != 1 || <-called != 2 {
			t.Error("wrong calls")
		}
		synctest.Wait()
		select {
		case <-called:
			t.Error("five changes made more than one call")
		default:
		}
		s.say(id, &wire.Changed{})
		<-called
		bye, m := expect[*wire.Cancel](s)
		if m.Target != id {
			t.Errorf("Cancel names %d, want %d", m.Target, id)
		}
		if got := <-done; got.err != enough {
			t.Errorf("Watch = %v", got.err)
		}
		s.say(id, &wire.Changed{}) // crosses the Cancel
		s.say(id, &wire.Error{Code: wire.CodeCanceled})
		s.say(bye, &wire.Done{})
		if n := pending(c); n != 0 {
			t.Errorf("%d calls are left over", n)
		}
	})
}

func TestTheQuietOfRulesBelongsToTheRulesThatFollow(t *testing.T) {
	quiets := func(of ...time.Duration) *wire.Quiets { return &wire.Quiets{Quiets: of} }
	for _, c := range []struct {
		first *wire.Quiets
		want  []time.Duration // nil: not within the protocol
	}{
		{nil, []time.Duration{0, 0}},
		{quiets(time.Minute, 0), []time.Duration{time.Minute, 0}},
		{quiets(0, time.Second), []time.Duration{0, time.Second}},
		{quiets(time.Minute), nil},
		{quiets(0, 0, time.Minute), nil},
	} {
		bubble(t, func(t *testing.T, client *Client, s *fake) {
			done := start(func() ([]Allowance, error) { return client.Rules(t.Context()) })
			id, _ := expect[*wire.Rules](s)
			if c.first != nil {
				s.say(id, c.first)
			}
			s.say(id, &wire.RulesReply{Rules: []wire.Allowance{{Holds: 1}, {Holds: 2}}})
			got := <-done
			var quiet []time.Duration
			for i, a := range got.value {
				if quiet = append(quiet, a.Quiet); a.Holds != uint32(i+1) {
					t.Errorf("after %+v: rule %d is %+v", c.first, i, a)
				}
			}
			if !slices.Equal(quiet, c.want) || (got.err == nil) != (c.want != nil) {
				t.Errorf("after %+v: %v, %v, want %v", c.first, quiet, got.err, c.want)
			}
		})
	}
}
