package main

import (
	"context"
	"time"

	"locker/authz"
	"locker/broker"
)

// What a broker's process does while it serves.

// mind heeds signals, and the broker's wish to be started again, until ctx is done or another broker shall go on, which it reports.
func (at *office) mind(ctx context.Context, again <-chan struct{}, b *broker.Broker) (handedOver bool) {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-at.handOver:
			return at.leave(ctx, b)
		case <-again:
			return at.leave(ctx, b)
		case <-at.hangups:
			at.manager.say(reloading())
			b.Reload(ctx) // says in the log what came of it
			at.manager.say("READY=1")
		}
	}
}

// leave hands over once the keeper has everything, however long that takes: nobody would have it otherwise. False if ctx was done
// before, since it drains then: a service manager sends SIGTERM whatever was said before.
func (at *office) leave(ctx context.Context, b *broker.Broker) bool {
	hint := time.AfterFunc(5*time.Second, func() {
		at.logger.Warn("another broker shall go on, but there is no keeper that has everything; SIGINT lets go of all locks instead")
	})
	defer hint.Stop()
	if ctx.Err() != nil || b.AwaitKept(ctx) != nil {
		return false
	}
	b.HandOver()
	return true
}

// needsRestart says what of a policy only a process takes up that starts with it.
func (at *office) needsRestart(p *authz.Policy) (words []string) {
	then, now := at.policy.Server, p.Server
	if at.policy.Audit != p.Audit {
		words = append(words, "segment_size")
	}
	if at.listener.ours() && (then.SocketMode != now.SocketMode || then.SocketGroup != now.SocketGroup || then.HasSocketGroup != now.HasSocketGroup) {
		words = append(words, "socket_mode and socket_group")
	}
	return words
}

// doubt tells of what is not on this machine as a policy has it.
func (at *office) doubt(p *authz.Policy) {
	for _, doubt := range p.Doubts() {
		at.logger.Warn("policy", "problem", doubt)
	}
}

// wantGuard tells the supervisor whether the policy denies somebody.
func (at *office) wantGuard(p *authz.Policy) {
	if !at.manager.supervised() {
		return
	}
	denies := "0"
	if len(p.Guard) > 0 {
		denies = "1"
	}
	at.manager.say(saysGuard + denies)
}

// loadAgain is load with what is to be told of a policy. It may be refused all the same: then a guard that is not needed does no harm,
// and one that is needed must stay. So none is ended before the next broker starts.
func (at *office) loadAgain(load func() (*authz.Policy, error)) (*authz.Policy, error) {
	p, err := load()
	if err != nil {
		return nil, err
	}
	at.doubt(p)
	if len(p.Guard) > 0 {
		at.wantGuard(p)
	}
	return p, nil
}
