package torture

import (
	"fmt"
	"strings"
	"time"
)

// tally is what is published of the rounds of one kind.
type tally struct {
	sums
	faults  map[string]int // by kind
	entered []uint64       // of this round: holds that an outsider got into while both processes were dead
	excuses int
}

// sums are counted by the run as a whole; a tally has the differences.
type sums struct {
	took                      time.Duration
	rounds                    int
	brokers, keepers, clients int // SIGKILLs, self-kills included
	steps, handed, doubles    int // self-kills; SIGTERMs; times that both were dead
	probes                    uint64
	counts                    [countKinds]uint64
}

func (a sums) minus(b sums) sums { return a.plus(b, -1) }

func (a sums) plus(b sums, sign int) sums {
	a.took += time.Duration(sign) * b.took
	a.rounds += sign * b.rounds
	a.brokers += sign * b.brokers
	a.keepers += sign * b.keepers
	a.clients += sign * b.clients
	a.steps += sign * b.steps
	a.handed += sign * b.handed
	a.doubles += sign * b.doubles
	a.probes += uint64(sign) * b.probes
	for i := range a.counts {
		a.counts[i] += uint64(sign) * b.counts[i]
	}
	return a
}

// sum gives what was counted so far.
func (r *run) sum() (s sums) {
	s.took = time.Duration(now() - r.begun)
	s.probes = r.m.probes.Load()
	for c := range countKinds {
		s.counts[c] = r.m.total(c)
	}
	s.clients = int(r.killed.Load())
	r.timeline.mu.Lock()
	s.doubles = r.doubles
	r.timeline.mu.Unlock()
	r.supervisor.mu.Lock()
	defer r.supervisor.mu.Unlock()
	s.brokers, s.keepers, s.handed = r.kills[brokerRole], r.kills[keeperRole], r.handed
	for step, n := range r.steps {
		s.steps += n
		if strings.HasPrefix(step, "keeper.") && stepRole(step) == keeperRole {
			s.keepers += n
		} else {
			s.brokers += n
		}
	}
	return s
}

// stepRole says who kills itself at a step.
func stepRole(name string) role {
	for _, step := range steps[keeperRole] {
		if strings.HasPrefix(step, name+"=") {
			return keeperRole
		}
	}
	return brokerRole
}

// tally gives the tally of a name. Only the goroutine that judges, and the one that plays while there is none, call it.
func (r *run) tally(name string) *tally {
	t := r.tallies[name]
	if t == nil {
		t = &tally{faults: map[string]int{}}
		r.tallies[name] = t
		r.order = append(r.order, name)
	}
	return t
}

func (t *tally) found(kind string) { t.faults[kind]++ }

// excused counts what may happen while both are dead.
func (t *tally) excused(e event) {
	t.excuses++
	if e.Kind == eventLost {
		t.entered = append(t.entered, e.Token)
	}
}

func (t *tally) add(s sums) { t.sums = t.plus(s, 1) }

const tableHead = `| run | SIGKILLs: broker / keeper / client | grants / probes | double | lost | resume failures | left behind | tokens back |
| --- | --- | --- | --- | --- | --- | --- | --- |
`

func (t *tally) row(name string) string {
	lost := fmt.Sprint(t.faults["lost"])
	if t.excuses > 0 {
		lost += fmt.Sprintf(" (%d gaps seen and logged, of %d times that both were dead)", t.excuses, t.doubles)
	}
	return fmt.Sprintf("| %s | %d / %d / %d | %d / %d | %d | %s | %d | %d | %d |\n", name, t.brokers, t.keepers, t.clients,
		t.counts[grants], t.probes, t.faults["double"]+t.faults["history"], lost, t.faults["resume"], t.faults["left"], t.faults["token"])
}

// table gives all of it as README has it.
func (r *run) table() string {
	var b strings.Builder
	b.WriteString(tableHead)
	all := tally{faults: map[string]int{}}
	for _, name := range r.order {
		t := r.tallies[name]
		b.WriteString(t.row(name))
		all.add(t.sums)
		all.excuses += t.excuses
		for kind, n := range t.faults {
			all.faults[kind] += n
		}
	}
	b.WriteString(all.row("all"))
	return b.String()
}

// mixture says what the load was.
func (r *run) mixture() string {
	var parts []string
	for c := range countKinds {
		parts = append(parts, fmt.Sprintf("%s %d", c, r.m.total(c)))
	}
	return strings.Join(parts, ", ")
}
