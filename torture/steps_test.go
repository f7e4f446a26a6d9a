package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// steps are the places where a process can kill itself, each with how likely it does when it comes there: what is rare is certain.
var steps = [roles][]string{
	brokerRole: {
		"grant.opened=0.03", "grant.locked=0.03", "grant.looked=0.03", "grant.numbered=0.03", "grant.put=0.03", "grant.entered=0.03", "grant.written=0.03", "grant.answered=0.03",
		"wait.kept=0.03", "resume.taken=0.2", // clients resume what the last one has left, so not behind one that died without a keeper
		"release.marked=0.03", "release.unlocked=0.03", "release.dropped=0.03", "release.written=0.03", "release.answered=0.03",
		"start.listed=1", "start.log=1", "start.restored=1", "start.synced=1", "start.accepting=1",
		"keeper.gone=1", "keeper.redialed=1", "keeper.resent=1", "keeper.again=1",
	},
	keeperRole: {"keeper.accepted=0.5", "keeper.put-received=0.03", "keeper.put-kept=0.03", "keeper.drop-received=0.03", "keeper.listed=0.5", "keeper.synced=0.5"},
}

// stepPatience is how long a process may take to come to its step; longer with each that has not come there, since a machine may be slow.
const stepPatience = 400 * time.Millisecond

// drill goes through the steps of one role at a time: the other's deaths are ours to choose.
type drill struct {
	mu    sync.Mutex // guards what follows
	armed role
	on    bool
	turn  [roles]int
	tried map[string]int
}

// next gives the step for a process that starts.
func (d *drill) next(r role) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.on || d.armed != r {
		return ""
	}
	step := steps[r][d.turn[r]%len(steps[r])]
	d.turn[r]++
	name, _, _ := strings.Cut(step, "=")
	d.tried[name]++
	return step
}

// arm begins with the steps of a role, or ends.
func (d *drill) arm(r role, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed, d.on = r, on
}

// round says how often all steps of the role have been tried.
func (d *drill) round(r role) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.turn[r] / len(steps[r])
}

// atSteps has processes of a role kill themselves at one step after the other, and brings about what leads there.
func (k *killer) atSteps(ctx context.Context, r role, enough func() bool) error {
	k.drill.arm(r, true)
	defer k.drill.arm(r, false)
	other := keeperRole - r
	for !enough() && ctx.Err() == nil {
		k.wait(time.Millisecond)
		p := k.of(r)
		if p.step == "" {
			k.now(r, plainKill) // the next one is armed
			continue
		}
		// What only the other's death leads to. Some of it is a death of both: then the log must do. (The keeper's first connection is from a
		// broker that has been there all the time, and has everything; the second is from a new one.)
		if r == keeperRole && slices.Contains([]string{"keeper.accepted", "keeper.listed", "keeper.synced"}, p.step) || r == brokerRole && strings.HasPrefix(p.step, "keeper.") {
			if err := k.settled(ctx); err != nil {
				return err
			}
			if k.of(r) == p {
				k.now(other, plainKill)
			}
		}
		select {
		case <-p.gone:
		case <-time.After(k.patienceWith(p.step)):
			k.now(r, plainKill) // there was no occasion
		case <-ctx.Done():
		}
	}
	k.drill.arm(r, false)
	// The last one is still armed, and is not to die at the end of the round.
	if p := k.of(r); p.step != "" {
		k.now(r, plainKill)
	}
	return k.settled(ctx)
}

// patienceWith is how long a process may take to come to this step.
func (k *killer) patienceWith(step string) time.Duration {
	k.supervisor.mu.Lock()
	hit := k.steps[step]
	k.supervisor.mu.Unlock()
	k.drill.mu.Lock()
	defer k.drill.mu.Unlock()
	if hit > 0 {
		return stepPatience
	}
	return min(stepPatience*time.Duration(max(1, k.drill.tried[step])), patience/4)
}

// unreached names the steps that were tried again and again and never came.
func (d *drill) unreached(hit map[string]int) (names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, n := range d.tried {
		if n >= 8 && hit[name] == 0 {
			names = append(names, fmt.Sprintf("%s (tried %d times)", name, n))
		}
	}
	return names
}
