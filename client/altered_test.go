package client

import (
	"testing"
	"testing/synctest"
	"time"

	"locker/wire"
)

func event(of ...wire.Alteration) *wire.Altered { return &wire.Altered{Alterations: of} }

func TestAlterationsAreToldToTheLockUnderItsOwnPath(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a", "/b"}}, 1, 2)
		at := time.Unix(5, 0).UTC()
		s.say(0, event(wire.Alteration{ID: 2, Count: 3, Last: "bands/1f", At: at, Missed: true}))
		if got, want := <-l.Altered(), (Alteration{Token: 2, Path: "/b", Count: 3, Last: "bands/1f", At: at, Missed: true}); got != want {
			t.Errorf("told %+v, want %+v", got, want)
		}
		s.say(0, event(wire.Alteration{ID: 77, Count: 1})) // of nothing of ours
		done := start(func() (bool, error) { return true, l.Unlock(t.Context()) })
		for range 2 {
			id, m := expect[*wire.Unlock](s)
			s.say(0, event(wire.Alteration{ID: m.ID, Count: 4})) // the last word
			s.say(id, &wire.Released{IDs: []uint64{m.ID}})
		}
		<-done
		told := map[uint64]uint32{}
		for a := range l.Altered() { // it is closed, and what was told is still in it
			told[a.Token] = a.Count
		}
		if told[1] != 4 || told[2] != 4 || len(told) != 2 {
			t.Errorf("told %v at the end", told)
		}
	})
}

func TestOfAlterationsThatNobodyReceivesTheNewestOfEachPathIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		l := held(t, c, s, Request{Paths: []string{"/a", "/b"}}, 1, 2)
		for n := range uint32(10) {
			s.say(0, event(wire.Alteration{ID: 1, Count: n + 1}, wire.Alteration{ID: 2, Count: 1}))
		}
		synctest.Wait()
		if a, b := <-l.Altered(), <-l.Altered(); a.Token+b.Token != 3 || a.Count+b.Count != 11 {
			t.Errorf("kept %+v, %+v", a, b)
		}
		s.say(0, event(wire.Alteration{ID: 1, Count: 10})) // again, as a lockerd does that is back
		synctest.Wait()
		select {
		case a := <-l.Altered():
			t.Errorf("told twice: %+v", a)
		default:
		}
	})
}

func TestAnAlterationThatOvertakesItsGrantIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		done := startLock(t.Context(), c, Request{Paths: []string{"/a"}})
		id, _ := expect[*wire.Lock](s)
		s.say(0, event(wire.Alteration{ID: 1, Count: 1}))
		s.say(id, grants(1))
		l := (<-done).value
		if a, ok := <-l.Altered(); !ok || a.Count != 1 || a.Path != "/a" {
			t.Errorf("told %+v, %v", a, ok)
		}
	})
}

func TestAListHasWhatHasBecomeOfEachHold(t *testing.T) {
	bubble(t, func(t *testing.T, c *Client, s *fake) {
		done := start(func() ([]Row, error) { return c.List(t.Context(), true) })
		id, _ := expect[*wire.List](s)
		row := func(id uint64) wire.Row {
			return wire.Row{Kind: wire.RowHolder, ID: id, Path: "/a", Mode: wire.Exclusive, Life: wire.Attached}
		}
		s.say(id, event(wire.Alteration{ID: 2, Count: 5}))
		s.say(id, event(wire.Alteration{ID: 3, Unwatched: true}))
		s.say(id, &wire.Rows{More: true, Rows: []wire.Row{row(1), row(2)}})
		s.say(id, &wire.Rows{Rows: []wire.Row{row(3)}})
		rows := (<-done).value
		if len(rows) != 3 || rows[0].Altered != (wire.Alteration{}) || rows[1].Altered.Count != 5 || !rows[2].Altered.Unwatched {
			t.Errorf("rows %+v", rows)
		}
	})
}
