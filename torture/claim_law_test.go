package torture

import (
	"path/filepath"
	"testing"
)

// What claim must find, and what it must not.
func TestAClaimFindsEveryOtherLivingOwner(t *testing.T) {
	type who struct {
		owner            int
		detached, shared bool
		token            uint64
	}
	for _, c := range []struct {
		name          string
		first, second who
		killed        bool // the first one's client
		back          bool // the first has given it back
		found         string
	}{
		{"two writers", who{0, false, false, 1}, who{3, false, false, 2}, false, false, eventDouble},
		{"two workers of one client", who{0, false, false, 1}, who{1, false, false, 2}, false, false, eventDouble},
		{"a reader after a writer", who{0, false, false, 1}, who{3, false, true, 2}, false, false, eventDouble},
		{"a writer after a reader", who{0, false, true, 1}, who{3, false, false, 2}, false, false, eventDouble},
		{"two readers", who{0, false, true, 1}, who{3, false, true, 2}, false, false, ""},
		{"given back", who{0, false, false, 1}, who{3, false, false, 2}, false, true, ""},
		{"the owner's client was killed", who{0, false, false, 1}, who{3, false, false, 2}, true, false, ""},
		{"a reader's client was killed", who{0, false, true, 1}, who{3, false, false, 2}, true, false, ""},
		{"a detached hold outlives its client", who{0, true, false, 1}, who{3, false, false, 2}, true, false, eventDouble},
		{"a detached reader outlives its client", who{0, true, true, 1}, who{3, false, false, 2}, true, false, eventDouble},
		{"the same token", who{0, false, false, 2}, who{3, false, false, 2}, false, true, eventToken},
		{"a smaller token", who{0, false, false, 2}, who{3, false, false, 1}, false, true, eventToken},
		{"a reader with a smaller token", who{0, false, false, 2}, who{3, false, true, 1}, false, true, eventToken},
		{"a writer with a token smaller than a reader's", who{0, false, true, 2}, who{3, false, false, 1}, false, true, eventToken},
		{"two readers in either order", who{0, false, true, 2}, who{3, false, true, 1}, false, false, ""},
	} {
		m, err := mapMemory(filepath.Join(t.TempDir(), "memory"))
		if err != nil {
			t.Fatal(err)
		}
		first, second := makeWord(c.first.owner, 1, 1, c.first.detached), makeWord(c.second.owner, 1, 1, c.second.detached)
		if wrong := m.claim(0, first, c.first.token, c.first.shared, now()); len(wrong) > 0 {
			t.Errorf("%s: the first claim: %+v", c.name, wrong)
		}
		if c.back {
			m.giveBack(0, first)
		}
		if c.killed {
			m.condemned[first.slot()].Store(1)
		}
		got := ""
		if wrong := m.claim(0, second, c.second.token, c.second.shared, now()); len(wrong) > 0 {
			got = wrong[0].Kind
		}
		if got != c.found {
			t.Errorf("%s: found %q, want %q", c.name, got, c.found)
		}
	}
}

func TestAWordIsReadBackFromItsTag(t *testing.T) {
	for _, w := range []word{makeWord(0, 1, 1, true), makeWord(owners-1, 0xffffff, 1<<32-1, true)} {
		if got, ok := wordOfTag(w.tag()); got != w || !ok {
			t.Errorf("tag %q gives %v, %v; want %v", w.tag(), got, ok, w)
		}
	}
	for _, tag := range []string{"", "nightly", "t1.2", "t1.2.3 ", "t01.2.3"} {
		if w, ok := wordOfTag(tag); ok {
			t.Errorf("tag %q is taken for that of %v", tag, w)
		}
	}
}

func TestANoteIsReadBack(t *testing.T) {
	n := note{Moment: givenUp, Shared: true, Who: makeWord(3, 2, 1, true), From: 1, At: 2, PID: 3, N: 2, Files: [setMost]uint8{4, 5}, Tokens: [setMost]uint64{6, 7}}
	b := n.append(nil)
	if len(b) != noteSize || parseNote(b) != n {
		t.Errorf("%d bytes give %+v, want %d and %+v", len(b), parseNote(b), noteSize, n)
	}
}
