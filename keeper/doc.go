// Package keeper keeps copies of the broker's descriptors in another process, so that locks outlive the broker.
//
// A lock of open file descriptions, OFD or flock(2), lives as long as any process has a copy of the descriptor, or one is in
// flight in the queue of a socket. So before the broker answers a grant, it puts a copy of the lock's descriptor, one
// of the holder's pidfd and a few words of its own, the blob, into a socket that the keeper reads. When the broker
// dies, the next one asks for all of them; when the keeper dies, the broker, which has its own copies, sends them all to
// the next keeper. Only the death of both at once ends a lock.
//
// Server is the keeper's side, Conn the broker's. Both are in this package, because they are one protocol; nobody else speaks it.
//
// # What the keeper does not do
//
// It takes no lock and releases none: releasing is done by the broker, with LOCK_UN, which frees the file whoever has copies.
// It does not know what its descriptors are, or what the blobs say; it refuses sockets, and nothing else. It opens no
// path, but to bind its socket when it starts. It knows no policy and no clients, and needs no capability. It keeps
// nothing on disk: when it ends, its copies end.
//
// A broker that means harm can make the keeper lose entries, or fill it up, and can get from it what a broker put there, which
// it had. It can get nothing else. It can keep the next broker from being served by staying alive, and in no other way: whatever it
// sends, and whatever it leaves unread, the keeper comes to the end of its connection when it has died.
//
// # Limits
//
//	blob           at most 512 bytes
//	entries        (RLIMIT_NOFILE - 64) / 2; the broker is told, and counts
//	brokers        one at a time; others wait in the backlog
//	peers          root and the keeper's own uid, SO_PEERCRED; the socket has mode 0600
//	a broker that does not read the answer it asked for is sent away after 10 s
//
// An entry takes the keeper its blob, rounded up to units of 32 bytes with a head of 10, and about 75 bytes more: 300 for a blob
// of 200 (BenchmarkMemory), and a Conn 30. What entries once took is used again by entries of the same size, and
// given back when the last entry goes.
//
// # Connection
//
// SOCK_SEQPACKET: messages keep their bounds and order, and carry descriptors. One datagram is one message. All integers are
// big-endian:
//
//	u8   version   1
//	u8   kind      see below
//	u8   set       a sum of bits, see below; else 0
//	u8   zero      0
//	     fields    of the kind
//	u32  sum       CRC-32C (Castagnoli) of all bytes before it
//
// From the broker:
//
//	Put     0x01   u64 id, u16 length of the blob (at most 512), blob
//	               set: 1 the lock's descriptor comes with it, 2 the holder's does; the lock's first
//	Drop    0x02   u64 id
//	Set     0x03   u64 id, u16 length, blob
//	List    0x04
//	Sync    0x05   u64 number, not 0
//	Forget  0x06
//
// From the keeper:
//
//	Entry   0x81   as Put
//	End     0x82   u64 highest (below 2^63), u32 count of Entries before it, u32 room for so many entries
//	               set: 1 complete
//	Synced  0x83   u64 number, of the Sync that it answers
//
// There is one encoding for each message. Another version, an unknown kind, a bit that has no meaning, a wrong checksum, a
// length beyond its limit or the message's end, bytes after the last field, and another number of descriptors than
// set says are errors. testdata/vectors.txt has examples of all. A version stays readable for as long as a keeper that speaks it may
// be running: a package upgrade restarts the broker, and not the keeper.
//
// Put adds an entry, or replaces the one with its id. Drop and Set of an id that is not there mean nothing. Forget drops all, and makes
// lists incomplete until the next Sync: what is not there is then not known to have been given up. List is answered by
// one Entry for each, ascending, and End; Sync by Synced; the others are not answered. Ids are the broker's choice; for
// highest, which is the greatest ever put to this process, those with the top bit set do not count.
//
// # Why a Put is not answered
//
// Because it need not be. Once sendmsg(2) has returned, the message is in the queue of the keeper's socket, and a queued message
// holds its descriptors as a process does. If the broker dies now, the message stays, and the keeper reads it. If the
// keeper dies, the queue goes with it, and the broker still has its own copies. An answer would cost each grant two
// context switches, 150 µs in a prototype, and buy nothing.
//
// It rests on two things.
//
// The keeper reads a connection to its end (EOF), and only then serves the next. Whatever else happens: a broker that died
// with answers unread makes the keeper's next read fail with ECONNRESET, and what it had sent comes after that. An empty
// datagram looks like the end: recv(2) gives 0 for both, so the keeper's socket has SO_PASSCRED, and a message
// without credentials is none. And a connection that the keeper itself ends, because of a message that is wrong, is
// shut down and read to its end all the same: behind the wrong message there may be locks whose only other copy dies with the
// broker.
//
// And the broker must know when to send everything again. That is what Sync is for. A keeper under SIGKILL gives up its
// connections one by one, while its listening socket still accepts: a broker that sees the end of one connects again, to
// the same dying process, and sends everything into it. In a prototype a third of the kills did that. A process that
// answers Sync is alive, has read all that came before, and so has the copies itself; before that, the broker must not grant
// anything.
//
// For the same reason the keeper is in no hurry. Being woken by each message would cost a grant more than all else that keeping does,
// so while there is traffic it reads once a millisecond whatever has come. Only who waits for List or Sync can notice: a broker that
// starts, ends, or meets a new keeper.
//
// # When the keeper is to leave
//
// Leave is for a keeper that is restarted: it ends once a broker that lives has everything. That a broker was answered a Sync does not
// say so, since it may be about to end itself, and to rely on us; so the keeper ends the connection there is, waits for
// the next, and ends when it has answered a Sync there. That is the first on that connection, and what a broker sends when it has taken
// over all that was listed; one that then ends as well syncs once more before, in vain. A second List is as good: it is sent instead of
// Sync where the keeper had not room for all. If nobody comes it stays for as long as its caller has said.
//
// # When the keeper is behind, or full
//
// Put never blocks. A queue that is full refuses (EAGAIN), and nothing was sent: the broker undoes the grant. The queue of a Conn
// is made 4 MiB long, which the kernel doubles and fills with 1,280 bytes for a Put with two descriptors: 6,554 fit
// (BenchmarkQueue) where /proc/sys/net/core/wmem_max or CAP_NET_ADMIN allows it, and 332 with the default of 208 KiB. Without
// CAP_SYS_RESOURCE or CAP_SYS_ADMIN a user's descriptors in flight are limited to RLIMIT_NOFILE as well; that
// (ETOOMANYREFS) is a full queue too.
//
// A Drop that the queue does not take is remembered, and sent before anything else: if the broker dies first, the entry is found
// without a lock on it by the next, which drops it.
//
// A keeper that cannot receive a descriptor (MSG_CTRUNC), because a limit was lowered or the system has no files left, closes what
// it got and ends the connection; so it does with what is malformed. The broker connects again and sends everything. Until
// it has, and has been answered a Sync, the keeper's lists are no longer complete.
//
// close(2) may hang where a file system does (FUSE asks its daemon), so the keeper closes beside its other work, on four
// threads at most. Where it hangs, those descriptors are missing for entries until it does not.
package keeper
