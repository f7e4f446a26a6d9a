// Package client asks lockerd for file locks.
//
// A Client is one session. It may be used by many goroutines at once; requests are answered out of order, so a Lock
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
// Files can be deleted and renamed although they are locked, and bundles can be unguarded for a time: Altered tells of it.
//
// # What a lock means
//
// An attached lock (the default) lives as long as the Client: Close and the death of the process end it. A detached one
// stays until it is unlocked, broken, or its TTL ends, whoever asked for it.
//
// A process can be stopped, swapped out or slow, and learn too late that its lock is gone. Where that matters, hand
// Token along with every write and let the storage refuse a token smaller than one it has seen: tokens only grow.
//
// # When lockerd dies
//
// A lockerd that is killed, upgraded or restarted keeps its locks and its queues, and a Client that Dial made comes back to
// them by itself: it connects to the same socket again, if who listens there is trusted as before, takes its session up and
// asks again for what was not answered. Nothing of it is to be seen: locks keep their tokens, a waiting Lock its place
// (OnQueued may hear of it again), and requests take longer. What lockerd could not keep is lost, with a Loss. When
// lockerd is not back within 30 seconds, attached locks are lost and everybody who waits gets ErrUnreachable; so it is
// at once when lockerd has said that it stops for good, when somebody else listens in its place, with a lockerd that speaks
// version 1 of the protocol, and for a Client that New made of a connection.
//
// What was worked on and could not be answered is worked on twice, and that is seen where a request is not the same the
// second time: of locks unlocked by path, tag or all at once, only those are named that were found then; the owner of a
// detached lock may hear that he has it already. A Break by path is the one request that is not asked again.
//
// Only the process that dialed can take its session up: a child that has inherited nothing but the memory (fork) cannot.
//
// # Contexts
//
// Every request takes a context, which is how to wait for less than those 30 seconds. A Lock whose context ends has left
// the queue when Lock returns, or leaves it as soon as lockerd answers if it does not within 5 seconds; a grant that was
// already under way is released again. For every other request the end of the context means only that nobody waits for
// the answer.
//
// # Errors
//
// What lockerd refuses is an *Error with a code. A lockerd that cannot be reached, or stays away, is ErrUnreachable; one
// that is run by somebody whom we have no reason to trust is ErrUntrusted. A Client that has failed stays failed: dial
// again.
//
// # Refused
//
// The package opens no file that is to be locked, repairs no path (they must be absolute and clean), and never
// passes its descriptor on (it is close-on-exec from the start).
package client
