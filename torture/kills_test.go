package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"locker/client"
	"locker/wire"
)

// killer chooses who dies, when and how.
type killer struct {
	*run
	random  *rand.Rand
	slow    int           // of 100 kills so many are slow
	clients int           // in 100 kills so many of a client
	due     chan struct{} // asks for one
}

// The ways to end a process.
const (
	plainKill = "SIGKILL"
	slowKill  = "SIGKILL, its sockets closing one by one"
	bothKill  = "SIGKILL, with the other"
	quietKill = "SIGKILL, and a client while it is away"
)

// wait lets a random time pass before a kill, so that each step of a grant has its share; most often a short one. Now and then it has a
// client killed, too.
func (k *killer) wait(most time.Duration) {
	if k.random.IntN(100) < k.clients {
		select {
		case k.due <- struct{}{}:
		default: // one is due already
		}
	}
	d := time.Duration(k.random.ExpFloat64() * float64(most) / 4)
	pause(min(d, most))
}

// atRandom ends one of the two, again and again, until enough; the next when both serve again.
func (k *killer) atRandom(ctx context.Context, enough func() bool) error {
	for !enough() && ctx.Err() == nil {
		k.wait(k.gap)
		r := k.whose()
		var err error
		switch p := k.random.IntN(100); {
		case p < k.slow:
			k.slowly(ctx, r)
		case p < k.slow+3:
			k.bothLeave()
		case p < k.slow+6:
			k.now(r, handOver)
		case p < k.slow+10 && r == brokerRole:
			err = k.quietly(ctx)
		default:
			k.now(r, plainKill)
		}
		if err == nil {
			err = k.settled(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// whose turn it is to die: of the two, rather that of which more are still to be killed.
func (k *killer) whose() role {
	s := k.sum()
	brokers, keepers := max(1, k.wanted-s.brokers), max(1, k.wanted-s.keepers)
	if k.random.IntN(brokers+keepers) < brokers {
		return brokerRole
	}
	return keeperRole
}

// now ends the running process of a role and waits until the next one has been started.
func (k *killer) now(r role, how string) {
	p := k.of(r)
	k.kill(p, how)
	<-p.gone
}

// bothLeave has both end in order at the same time, as a restart of both services does: neither may rely on the other then.
func (k *killer) bothLeave() {
	leaving := []*incarnation{k.of(brokerRole), k.of(keeperRole)}
	k.random.Shuffle(2, func(i, j int) { leaving[i], leaving[j] = leaving[j], leaving[i] })
	for _, p := range leaving {
		k.kill(p, handOver)
		if k.random.IntN(2) == 0 {
			pause(upTo(k.random, 2*time.Millisecond))
		}
	}
	for _, p := range leaving {
		<-p.gone
	}
}

// slowly ends it with its sockets open, which close in any order; half the time its listening socket, if it has one, is the last.
func (k *killer) slowly(ctx context.Context, r role) {
	p := k.of(r)
	k.withhold(r)
	defer k.allow(r)
	rs := embalm(p.pid)
	k.random.Shuffle(len(rs), func(i, j int) { rs[i], rs[j] = rs[j], rs[i] })
	last := k.random.IntN(2) == 0
	listens := last && rs.listeningLast()
	k.kill(p, slowKill)
	<-p.gone
	rest := rs.bury(k.random, upTo(k.random, 10*time.Millisecond))
	if last && r == keeperRole {
		if !listens {
			more, err := pretend(k.keeper)
			if err != nil {
				k.report(finding{kind: "end", text: fmt.Sprintf("pretend to be a keeper: %v", err)})
			}
			rest = append(rest, more...)
		}
		k.believe(ctx)
	} else {
		pause(upTo(k.random, 10*time.Millisecond))
	}
	for _, fd := range rest {
		unix.Close(fd)
	}
}

// believe looks, while a dead keeper can still be connected to, whether the broker takes it for one that has everything. Then that broker is
// killed: by its own word it may be.
func (k *killer) believe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, upTo(k.random, 30*time.Millisecond))
	defer cancel()
	broker := k.of(brokerRole)
	noticed := false
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		generation, asked := k.generation(), now()
		st, err := k.status(ctx)
		switch {
		case err != nil || int(st.BrokerPID) != broker.pid:
			return
		case st.KeeperPID == 0:
			noticed = true
		case noticed:
			k.said("broker %d says that keeper %d has everything", broker.pid, st.KeeperPID)
			k.close(generation, asked)
			k.now(brokerRole, plainKill)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// quietly ends a client while there is no broker; a second after the next one serves, nothing of that client may be left.
func (k *killer) quietly(ctx context.Context) error {
	k.withhold(brokerRole)
	k.now(brokerRole, quietKill)
	slot := k.random.IntN(slots)
	pid := k.crowd.end(slot)
	k.allow(brokerRole)
	if err := k.settled(ctx); err != nil || pid == 0 {
		return err
	}
	return k.within(ctx, time.Second, func(rows []client.Row) error {
		for _, r := range rows {
			if int(r.PID) == pid && (r.Kind != wire.RowHolder || r.Life == wire.Attached) {
				return fmt.Errorf("the %v of client %d (pid %d) on %s outlives it, though it died before the broker started", r.Kind, slot, pid, r.Path)
			}
		}
		return nil
	})
}

// together ends both at once, in either order.
func (k *killer) together(ctx context.Context, enough func() bool) error {
	for !enough() && ctx.Err() == nil {
		k.wait(k.gap)
		first, second := k.of(brokerRole), k.of(keeperRole)
		if k.random.IntN(2) == 0 {
			first, second = second, first
		}
		k.kill(first, bothKill)
		if k.random.IntN(2) == 0 {
			pause(upTo(k.random, 2*time.Millisecond))
		}
		k.kill(second, bothKill)
		<-first.gone
		<-second.gone
		if err := k.settled(ctx); err != nil {
			return err
		}
	}
	return nil
}
