package client

import (
	"context"

	"locker/wire"
)

// Watch calls changed once when it has begun to watch, and again after every change of the lock table since its last
// call (several changes make one call), in the goroutine that called Watch. It returns when changed returns an
// error, with that; when ctx ends, with its error; or when lockerd stays away. After it has been
// away, changed is called too: for what has changed meanwhile.
func (c *Client) Watch(ctx context.Context, changed func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k := newCall()
	if err := c.send(k, &wire.Watch{}); err != nil {
		return err
	}
	// Requests are taken in order: what changed asks for is answered after the watch has begun, so no change is missed.
	err := changed()
	for err == nil {
		select {
		case <-k.news:
			err = changed()
		case a := <-k.answer:
			if _, err = final(a); err == nil {
				err = unexpected(a)
			}
			return err
		case <-c.done:
			return c.failure()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(k)
	if k.sent {
		c.dismiss(k) // if it cannot be sent, the client has ended and the watch with it
	}
	return err
}
