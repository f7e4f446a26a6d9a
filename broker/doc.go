// Package broker holds kernel file locks for other people.
//
// It owns the lock table, the sessions of connected clients, the queue, the leases and the order in which all of it
// reaches the audit log and the keeper. It is the only one that decides with authz, opens and locks with flock and writes with
// audit; cmd/lockerd wires it up, and clients meet it through package wire alone.
//
// # One request
//
// identify (once per connection, by the kernel) → decide (on the bytes of the path, before the file system is touched)
// → open → reserve in the table → claim from the kernel → look again → number → keep → enter → record → answer. A refusal skips to
// record. If keeping or recording fails, the claim is undone and the client refused. Why the steps of a grant stand in this
// order is said at grant, those of a release at beginEnd, those of a start at restore.
//
// # Who works on a claim
//
// A claim is always in one of four phases, guarded by Broker.mu:
//
//   - opening: a goroutine is opening its files (waiting out somebody's file lease, for instance);
//   - queued: it stands in the table's queue and nobody works on it; whoever holds mu may take it out;
//   - claiming: the table has reserved its files and exactly one goroutine asks the kernel for them. Others only leave a
//     word in request.ended and cancel; the worker finds it the next time it takes mu;
//   - done: answered, or about to be.
//
// Nothing waits on a mutex while it waits for the kernel, a file or a client: mu covers table, log order and
// bookkeeping, and is never held across a system call that can block. Answers are sent without blocking (outbox).
//
// # Idle files
//
// Some claims want more than the kernel's locks: that nobody else has the file open. What the broker itself has open must not be
// mistaken for somebody: see idle.go. Where a rule asks for quiet, a bundle must not have been written lately either: see quiet.go.
//
// While a bundle is held the guard, where there is one, refuses opens below it to file servers that heed no lock: see guarding.go.
//
// # The log is the state
//
// Every change of the table and the record of it happen in the same critical section, so replaying the log gives the
// table at every step. A record's line is written before the answer that it explains; the grant of a detached lock is
// on the disk before the answer. The sequence number of a grant's record is the hold's id and its fencing token.
//
// # Alterations
//
// Held files can be deleted and renamed, whatever is locked. The kernel is asked to tell of it once a hold is in the table (changes.go),
// and the list, the log and the holder's session have it (altered.go). It changes nothing about what is held.
//
// # Outliving a crash
//
// The keeper, another process, has a copy of the descriptor of every hold, and the place of every claim that waits. So a lock
// outlives this process, and a broker that starts takes over what is there before it serves anybody: see restore.go. Sessions
// are away then, until their clients come back and name them (Resume), die, or have taken longer than Config.Patience. When the
// keeper dies, grants wait until the next one has everything (keeper_death.go). When both are dead, the log says what is to be
// claimed again.
//
// A stop by HandOver is a crash with a last record: nobody is told, nothing is let go.
//
// # Limits
//
// All limits are authz.Limits. What they count and what lies beyond each is in the README's limits table; they are checked
// before anything is allocated for the request that would exceed them.
//
// # Refused
//
// The broker never creates, writes or truncates a user's file, never takes on a client's uid, never reads a byte of
// a file it locks, and takes no identity from a client's words.
package broker
