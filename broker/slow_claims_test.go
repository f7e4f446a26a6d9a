package broker

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"locker/wire"
)

// asNetwork makes the only request of somebody's that waits one for a file where a call may hang.
func (r *rig) asNetwork() {
	r.t.Helper()
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	for _, s := range r.b.sessions {
		for _, q := range s.requests {
			q.files[0].Network = true
			return
		}
	}
	r.t.Fatal("nobody waits")
}

// allHang takes all slots of the tests' uid for what may hang; the function gives them back.
func (r *rig) allHang() (answers func()) {
	r.t.Helper()
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	a := r.b.accounts[uint32(os.Geteuid())]
	a.slow.set(0)
	return func() { a.slow.set(slowUID) }
}

// Whose turn it is while all that he may have under way hangs waits for a slot, and that can be ended as any wait can.
func TestTheWaitForASlotEndsAsAnyWait(t *testing.T) {
	for name, c := range map[string]struct {
		ask  *wire.Lock
		end  func(r *rig, p *peer, id uint32)
		want wire.Code
	}{
		"cancelled": {attached(""), func(r *rig, p *peer, id uint32) { p.send(&wire.Cancel{Target: id}) }, wire.CodeCanceled},
		"timed":     {timed(attached(""), 300*1e6), func(*rig, *peer, uint32) {}, wire.CodeTimeout},
		"gone":      {attached(""), func(r *rig, p *peer, id uint32) { p.conn.Close() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			m := *c.ask
			m.Paths = []string{r.file("a")}
			holder, p, next := r.dial(), r.dial(), r.dial()
			g := holder.granted(attached(m.Paths[0]))
			id := p.send(&m)
			p.queued(id)
			r.asNetwork()
			behind := next.send(attached(m.Paths[0]))
			next.queued(behind)
			answers := r.allHang()
			holder.unlock(g[0].ID)
			c.end(r, p, id)
			if c.want != 0 {
				if e := asError(t, p.answer(id)); e.Code != c.want {
					t.Errorf("%+v", e)
				}
			}
			grants(t, next.answer(behind))
			answers()
		})
	}
}

// A claim that waits for somebody outside tries with a slot, and is granted with one.
func TestWhoWaitsOutsideTriesWithASlot(t *testing.T) {
	r := newRig(t, nil)
	path := r.file("a")
	holder, p, q := r.dial(), r.dial(), r.dial()
	g := holder.granted(attached(path))
	id := p.send(attached(path))
	p.queued(id)
	r.asNetwork()
	answers := r.allHang()
	holder.unlock(g[0].ID)
	outside := startChild(t, "flock", path) // before there is a slot to ask the kernel
	answers()
	p.queued(id)
	answers = r.allHang()
	outside.end()
	q.undisturbed() // a request and its answer: much may have happened by now
	if p.isAnswered(id) {
		t.Error("granted without a slot")
	}
	answers()
	grants(t, p.answer(id))
	r.b.mu.Lock()
	a := r.b.accounts[uint32(os.Geteuid())]
	r.b.mu.Unlock()
	eventually(t, "the slot is given back", func() bool { return a.slow.inUse() == 0 && r.b.gates.slow.inUse() == 0 })
}

// Of files of which one hangs, the others are let go of at once, whatever else of his hangs, when they are unlocked and when their holder
// goes; an unlock is answered with the last.
func TestAFileThatHangsKeepsNoOtherFromBeingLetGoOf(t *testing.T) {
	for _, goes := range []bool{false, true} {
		r := newRig(t, nil)
		hangs, too, local := r.file("hangs"), r.file("hangs too"), r.file("local")
		p, next := r.dial(), r.dial()
		g := p.granted(attached(hangs, too, local))
		r.b.mu.Lock()
		for _, grant := range g[:2] {
			r.b.table.byID(grant.ID).info.file.Network = true
		}
		r.b.mu.Unlock()
		answers := r.allHang()
		r.b.gates.ends.set(0)
		var all uint32
		if goes {
			p.conn.Close()
		} else {
			all = p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{hangs, too, local}})
		}
		next.granted(attached(local))
		id := next.send(attached(hangs))
		next.queued(id)
		if !goes && p.isAnswered(all) {
			t.Error("answered before all are let go of")
		}
		r.b.gates.ends.set(endsAll)
		if !goes {
			if m, ok := p.answer(all).(*wire.Released); !ok {
				t.Errorf("%+v", m)
			}
		}
		grants(t, next.answer(id))
		next.granted(attached(too))
		if !goes && p.isAnswered(all) {
			t.Error("answered twice")
		}
		answers()
	}
}

// Each that hangs is a thread, which systemd counts.
func TestTheUnitAllowsAllThreadsThatMayHang(t *testing.T) {
	text, err := os.ReadFile("../etc/lockerd.service")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^TasksMax=(\d+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatal("the unit has no TasksMax")
	}
	most, err := strconv.Atoi(string(m[1]))
	if all := slowAll + endsAll + networkSilentAll + looksAll; err != nil || most < all+512 || most >= 10000 {
		t.Errorf("TasksMax=%s, and %d may hang", m[1], all)
	}
}
