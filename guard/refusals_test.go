package guard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRefusalsAreToldAtOnceAndThenOnceASecond(t *testing.T) {
	r := newRefusals()
	now := time.Now()
	told := func(room int) string {
		var all []string
		r.tell(now, func(key refusal, pid int32, count uint32) bool {
			if len(all) == room {
				return false
			}
			all = append(all, fmt.Sprintf("%d%s*%d by %d", key.id, key.exe, count, pid))
			return true
		})
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	want := func(want string) {
		t.Helper()
		if got := told(99); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	a, b := refusal{1, "/a"}, refusal{2, "/a"}
	want("")
	r.add(a, 10, 1)
	want("1/a*1 by 10")
	want("")
	r.add(a, 11, 1)
	r.add(b, 12, 3)
	r.add(a, 13, 1)
	want("2/a*3 by 12")
	now = now.Add(refusalPause - 1)
	want("")
	now = now.Add(1)
	want("1/a*2 by 13")
	// What the broker has no room for is told later.
	now = now.Add(refusalPause)
	r.add(a, 14, 1<<32-1)
	r.add(a, 14, 5) // does not wrap
	r.add(b, 15, 1)
	if first, second := told(1), told(1); first+second != "1/a*4294967295 by 142/a*1 by 15" && first+second != "2/a*1 by 151/a*4294967295 by 14" {
		t.Errorf("told %q and then %q", first, second)
	}
	// And who is quiet is forgotten.
	now = now.Add(refusalPause)
	want("")
	if len(r.counts) != 0 {
		t.Errorf("%d kept", len(r.counts))
	}
	// However many there are, some room is enough, and none is lost.
	const many = 2 * maxRefusals
	for id := range uint64(many) {
		r.add(refusal{id + 1, "/a"}, 1, 1)
	}
	sum := uint32(0)
	r.tell(now, func(_ refusal, _ int32, count uint32) bool { sum += count; return true })
	if len(r.counts) > maxRefusals+1 || sum != many {
		t.Errorf("%d kept, %d told; want at most %d, and %d", len(r.counts), sum, maxRefusals+1, many)
	}
}
