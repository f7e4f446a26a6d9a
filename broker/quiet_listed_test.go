package broker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"locker/wire"
)

func TestWhoAsksWhatHeMayLockIsToldOfQuietWhereHisVersionHasAWordForIt(t *testing.T) {
	loud := "[[rule]]\nusers = [1000]\npaths = [\"FILES/loud\"]\ncan = [\"lock\"]\n"
	for _, c := range []struct {
		text    string
		version uint8
		want    []time.Duration // nil: the rules come at once
	}{
		{quietRule + loud, 3, nil},
		{quietRule + loud, 4, []time.Duration{30 * time.Second, 0}},
		{strings.Replace(quietRule, "quiet = \"30s\"\n", "", 1) + loud, 4, nil}, // none asks for any
	} {
		var h hour
		p := newRig(t, hushed(c.text, &h)).dialAt(c.version)
		id := p.send(&wire.Rules{})
		m := p.answer(id)
		if c.want != nil {
			if q, ok := m.(*wire.Quiets); !ok || !slices.Equal(q.Quiets, c.want) {
				t.Errorf("version %d: before the rules comes %+v, want %v", c.version, m, c.want)
			}
			m = p.answer(id)
		}
		if rules, ok := m.(*wire.RulesReply); !ok || len(rules.Rules) != 2 {
			t.Errorf("version %d: the rules are %+v", c.version, m)
		}
	}
}
