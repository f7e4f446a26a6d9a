package main

import (
	"context"
	"errors"
	"time"

	"locker/keeper"
)

// dialKeeper connects to the keeper, and waits for one that is being restarted.
func dialKeeper(ctx context.Context, path string) (*keeper.Conn, error) {
	const least, most = time.Millisecond, 100 * time.Millisecond
	for pause := least; ; pause = min(2*pause, most) {
		c, err := keeper.Dial(ctx, path)
		if err == nil {
			return c, nil
		}
		over := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			over.Stop()
			return nil, errors.Join(ctx.Err(), err)
		case <-over.C:
		}
	}
}
