// Package client asks lockerd for file locks.
//
// A Client is one connection. It may be used by many goroutines at once; requests are answered out of order, so a Lock
// that waits holds up nobody else.
//
//	c, err := client.Dial(ctx, "")
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//
//	lock, err := c.Lock(ctx, client.Request{Paths: []string{"/srv/tm/mac.sparsebundle"}, Reason: "nightly backup"})
//	if err != nil {
//		return err // a *client.Error says who is in the way
//	}
//	defer lock.Unlock(context.WithoutCancel(ctx))
//
//	select {
//	case err = <-backup(ctx, lock.Token()):
//		return err
//	case loss, ok := <-lock.Lost():
//		if ok {
//			return loss // it is not ours any more: stop touching the file
//		}
//	}
//
// # What a lock means
//
// An attached lock (the default) lives as long as the Client: Close, the death of the process or of lockerd end it. A
// detached one stays until it is unlocked, broken, or its TTL ends, whoever asked for it.
//
// A process can be stopped, swapped out or slow, and learn too late that its lock is gone. Where that matters, hand
// Token along with every write and let the storage refuse a token smaller than one it has seen: tokens only grow.
//
// # Contexts
//
// Every request takes a context. A Lock whose context ends has left the queue when Lock returns, or leaves it at once if
// lockerd does not answer within 5 seconds; a grant that was already under way is released again. For every other request
// the end of the context means only that nobody waits for the answer.
//
// # Errors
//
// What lockerd refuses is an *Error with a code. A lockerd that cannot be reached, or goes away, is ErrUnreachable; one
// that is run by somebody whom we have no reason to trust is ErrUntrusted. A Client that has failed stays failed: dial
// again.
//
// # Refused
//
// The package opens no file that is to be locked, repairs no path (they must be absolute and clean), never passes its
// descriptor on (it is close-on-exec from the start), and does not reconnect.
package client
