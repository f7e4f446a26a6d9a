package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// run is one trial of one lockerd, of one round or of many.
type run struct {
	*supervisor
	t      *testing.T
	m      *memory
	memory string // file
	events string // file
	seed   uint64
	drill  *drill
	crowd  *crowd        // of the round
	gap    time.Duration // between two kills, at most
	wanted int           // kills of broker and keeper each
	lives  [slots]uint32
	tokens map[uint64]bool // all that were answered
	log    *logCheck
	round  string // its name

	ctx  context.Context // ends at the first fault
	fail context.CancelCauseFunc

	finding sync.Once
	tallies map[string]*tally
	order   []string // of tallies
	offset  int64    // of the events that were read
	pending []event
	first   finding

	killed atomic.Int64 // clients
}

// newRun starts broker and keeper.
func newRun(t *testing.T, lockerd, bug string, seed uint64) *run {
	t.Helper()
	s := newStage(t, lockerd)
	s.bug = bug
	r := &run{
		t: t, seed: seed, memory: filepath.Join(s.dir, "memory"), events: filepath.Join(s.dir, "events"),
		drill: &drill{tried: map[string]int{}}, tokens: map[uint64]bool{}, tallies: map[string]*tally{}, gap: 24 * time.Millisecond, wanted: 1 << 30,
	}
	r.log = &logCheck{dir: s.audit()}
	r.ctx, r.fail = context.WithCancelCause(context.Background())
	lines, err := openAppend(filepath.Join(s.dir, "timeline"))
	if err != nil {
		t.Fatal(err)
	}
	r.supervisor = &supervisor{stage: s, timeline: newTimeline(lines), starts: newStarter(), steps: map[string]int{}, nextArm: r.drill.next, fault: r.report}
	t.Cleanup(func() { // before the files are removed
		r.fail(context.Canceled)
		r.end()
		close(r.starts)
		lines.Close()
	})
	if r.m, err = mapMemory(r.memory); err != nil {
		t.Fatal(err)
	}
	r.launch(keeperRole)
	r.launch(brokerRole)
	if err := r.settled(r.ctx); err != nil {
		r.report(finding{kind: "end", text: fmt.Sprintf("it does not start: %v\n%s", err, tail(r.supervisor.log(brokerRole)))})
	}
	return r
}

// plan is what happens in a round.
type plan struct {
	name    string // of its line in the table
	mix     mix
	clients int // in 100 kills of broker or keeper so many of a client
	kill    func(ctx context.Context, k *killer) error
}

// play plays a round and looks at what is left; false: something was found.
func (r *run) play(p plan) bool {
	if r.ctx.Err() != nil {
		return false
	}
	r.round = p.name
	before := r.sum()
	defer func() { r.tally(p.name).add(r.sum().minus(before)) }()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	random := rand.New(rand.NewPCG(r.seed, uint64(before.brokers+before.keepers)))
	r.said("round: %s", p.name)
	r.crowd = r.gather(p.mix)
	var others sync.WaitGroup
	others.Go(func() { r.judge(ctx) })
	k := &killer{run: r, random: random, slow: 20, clients: p.clients, due: make(chan struct{}, 1)}
	seed := random.Uint64()
	others.Go(func() { r.crowd.thin(ctx, rand.New(rand.NewPCG(seed, 1)), k.due) })
	err := r.settle(p.mix.Quiet)
	if err == nil {
		err = p.kill(ctx, k)
	}
	if err != nil && r.ctx.Err() == nil {
		r.report(finding{kind: "end", text: fmt.Sprintf("%v\nthe broker said:\n%s\nthe keeper said:\n%s", err, tail(r.supervisor.log(brokerRole)), tail(r.supervisor.log(keeperRole)))})
	}
	cancel()
	others.Wait()
	if r.ctx.Err() != nil {
		r.crowd.destroy()
		r.crowd.work.Wait()
		return false
	}
	if err := r.crowd.dismiss(); err != nil {
		r.report(finding{kind: "stuck", text: err.Error()})
		return false
	}
	if err := r.unsettle(p.mix.Quiet); err != nil {
		r.report(finding{kind: "lost", text: err.Error()})
		return false
	}
	r.conclude()
	return r.ctx.Err() == nil
}

// conclude checks what a round has left: nothing.
func (r *run) conclude() {
	if err := r.inheritAll(); err != nil {
		r.report(finding{kind: "end", text: err.Error()})
		return
	}
	r.judgeAll()
	if r.ctx.Err() == nil {
		r.checkRest()
	}
	if r.ctx.Err() == nil {
		r.checkHistory()
	}
	r.forget()
}

// forget makes room for the next round.
func (r *run) forget() {
	r.timeline.forget()
	r.tally(r.round).entered = nil
	r.crowd = nil
}

// finish ends the run and gives what is to be said about it.
func (r *run) finish() {
	r.end()
	if r.first.kind != "" {
		r.t.Error(r.describe())
	}
}
