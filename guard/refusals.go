package guard

import "time"

const (
	// refusalPause is how long refusals of one program below one id are counted before they are told again.
	refusalPause = time.Second
	maxRefusals  = 4096 // kinds of refusals that are counted apart
)

// refusals counts who was refused, so that a server that tries again and again is told of once a second. It belongs to one
// goroutine.
type refusals struct {
	counts map[refusal]*tally
}

type refusal struct {
	id  uint64
	exe string
}

type tally struct {
	pid   int32 // the last
	count uint32
	told  time.Time
}

func newRefusals() *refusals { return &refusals{counts: map[refusal]*tally{}} }

// add counts n refusals more.
func (r *refusals) add(key refusal, pid int32, n uint32) {
	t := r.counts[key]
	if t == nil && len(r.counts) >= maxRefusals {
		key.id = 0 // those for whom there is no room are counted together; there are no more of these than programs in the deny list
		t = r.counts[key]
	}
	if t == nil {
		t = &tally{}
		r.counts[key] = t
	}
	t.pid = pid
	t.count = min(t.count, 1<<32-1-n) + n // does not wrap
}

// tell gives tell what is due, until it is false, and forgets what has been quiet.
func (r *refusals) tell(now time.Time, tell func(key refusal, pid int32, count uint32) bool) {
	for key, t := range r.counts {
		switch {
		case now.Sub(t.told) < refusalPause:
		case t.count == 0:
			delete(r.counts, key)
		case !tell(key, t.pid, t.count):
			return
		default:
			t.count, t.told = 0, now
		}
	}
}
