package torture

import (
	"os"
	"testing"
)

// An outsider may get in only while both were dead, and that is said only when it is certain.
func TestWhenBothWereDeadIsKnownOnlyAfterwards(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	x := newTimeline(null)
	ask := func(name string, from, to int64, both, ok bool) {
		t.Helper()
		if gotBoth, gotOK := x.bothDead(from, to); gotBoth != both || gotOK != ok {
			t.Errorf("%s: both dead %v, certain %v; want %v, %v", name, gotBoth, gotOK, both, ok)
		}
	}
	good := func() int64 {
		at := now()
		if !x.close(x.generation(), at) {
			t.Fatal("nothing has happened, and the fault was not closed")
		}
		return at
	}
	first := good()
	ask("later than what is known", first, now(), false, false)

	x.ended(brokerRole, 1, "killed")
	x.started(brokerRole, 2, "")
	ask("one is dead", first, now(), false, false)
	stale := x.generation()
	x.ended(brokerRole, 2, "killed")
	if x.close(stale, now()) {
		t.Error("a fault was closed by an answer from before the last death")
	}
	second := good()
	ask("only the broker was dead", first, second-1, false, true)

	held := now()
	x.ended(keeperRole, 3, "killed")
	x.ended(brokerRole, 4, "killed")
	ask("both are dead", held, now(), true, true)
	third := good()
	ask("both were dead, while it was held", held, third-1, true, true)
	ask("both were dead, before it was granted", now(), now(), false, false)
	fourth := now()
	good()
	ask("both were dead, before it was granted, and now it is certain", fourth, fourth, false, true)
	if !x.brokerDied(first, third) || x.brokerDied(fourth, now()) {
		t.Error("when the broker died is not remembered")
	}
}
