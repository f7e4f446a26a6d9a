package torture

import (
	"context"
	"fmt"
	"time"

	"locker/client"
)

// status asks the broker how it is, over one connection, which comes back to each new one.
func (s *supervisor) status(ctx context.Context) (*client.Status, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.asks == nil {
		c, err := client.Dial(ctx, s.socket)
		if err != nil {
			return nil, err
		}
		s.asks = c
	}
	st, err := s.asks.Status(ctx)
	if err != nil && ctx.Err() == nil {
		s.asks.Close()
		s.asks = nil
	}
	return st, err
}

// settled waits until both serve, and know each other.
func (s *supervisor) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("broker and keeper do not serve again within %v", patience))
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		generation, asked := s.generation(), now()
		broker, keeper := s.of(brokerRole), s.of(keeperRole)
		st, err := s.status(ctx)
		if err == nil && int(st.BrokerPID) == broker.pid && (int(st.KeeperPID) == keeper.pid || s.bug == bugNoKeeper) && s.close(generation, asked) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
