// Package wire is the language that clients and lockerd speak: frames, messages, codes and limits.
//
// It encodes and decodes values, and nothing else: no sockets, no clocks, no policy. This comment is the whole
// protocol; a client in any language can be written from it. docs/examples/locker.py was, and testdata/vectors.txt
// holds frames to test another one with.
//
// # Connection
//
// A unix stream socket, /run/locker.sock unless the site says otherwise. There is no login: the kernel tells the server
// the uid, gid, groups and pid of the process that called connect(2), and nothing in the protocol can add to or
// change that. A connection that is passed to another process stays that of the process that connected, and ends when
// that process dies. One that breaks can be replaced by that process, and by no other: see "A connection that breaks".
//
// # Frames
//
// Both directions carry frames, one after the other:
//
//	u32 length   of what follows, 6 to 65536
//	u8  version  of the protocol that introduced this type of message: as the tables below say, else 1
//	u8  type     which message
//	u32 request  request id
//	    fields   of the message, in the order of the tables below
//
// Field types; all integers are big-endian:
//
//	u8 u16 u32 u64   unsigned integers; "nonzero" after a type: 0 is refused
//	i32              two's complement
//	bool             u8, 0 or 1
//	enum N           u8, 1 to N
//	set N            u8, a sum of the bits 1, 2, 4 … of which the lowest N are defined; the others are 0
//	duration         u64 nanoseconds, 0 to 2^63-1; "duration 30s": at most that
//	time             i64 Unix time in nanoseconds, UTC; 0 is "none"
//	string N         u16 length, at most N, and so many bytes. Paths are bytes; they need not be UTF-8
//	name N           a string N that is not empty
//	list N T         u16 count, at most N, and so many T, where T is a type or one of the structures below
//
// There is one encoding for each value. A wrong version, an unknown type or enum, an undefined bit, a bool of 2, a length
// or count beyond its limit, a field that the frame is too short for and bytes after the last field are errors, and
// so are the combinations that the tables exclude. Check a length against its limit and against the rest of the
// frame before you allocate for it. A list within its limit may still be more than a frame can hold: 64 paths of 4095
// bytes cannot be sent.
//
// # Requests
//
// What clients send. "only with" means: else zero, empty or false. "version 2": only where Welcome says that
// version or a higher one.
//
//	Hello 0x01
//	  min       u8 nonzero           lowest and
//	  max       u8                   highest protocol version the client speaks; min <= max
//	Lock 0x02
//	  mode      enum 3               1 exclusive, 2 shared, 3 idle: exclusive, and only while nobody else has the file open
//	                                 (version 3)
//	  wait      enum 3               1 block: wait for ever, 2 nonblock: answer busy at once, 3 timed
//	  timeout   duration             only with timed: then the answer is timeout. 0 is "now or timeout"
//	  life      enum 2               1 attached: ends with the connection, 2 detached: until it is unlocked
//	  ttl       duration             only with detached: the hold ends by itself after this; 0: it does not
//	  grace     duration 30s         only with attached: time to clean up after Lost
//	  tag       string 64            only with detached: part of the owner
//	  reason    string 256           shown to those who are in its way, and recorded
//	  paths     list 64 name 4095    at least 1; absolute and clean. All are locked, or none
//	Unlock 0x03
//	  by        enum 3               1 path, 2 id, 3 all: every detached hold of the uid
//	  tag       string 64            only with path and all: of detached holds
//	  any_tag   bool                 only with path and all, and an empty tag: whatever their tag
//	  id        u64                  only with id, and not 0 there
//	  paths     list 64 name 4095    only with path, and at least 1 there
//	Cancel 0x04
//	  target    u32 nonzero          request id of a Lock that waits, or of the Watch
//	Where 0x05
//	  target    u32 nonzero          request id of a Lock that waits
//	List 0x06
//	  all       bool                 everything that the peer may list; else what is its own
//	Watch 0x07
//	Status 0x08
//	Break 0x09
//	  by        enum 2               1 path, 2 id
//	  id        u64                  only with id, and not 0 there
//	  path      string 4095          only with path, and not empty there
//	  reason    name 256             told to the owner, and recorded
//	Reload 0x0a
//	Rules 0x0b
//	Explain 0x0c
//	  user      name 1024            name or uid
//	  has_groups bool                groups replaces those of the user database
//	  groups    list 1024 name 1024  only with has_groups: names or gids
//	  action    string 1024          lock, lock-shared, list or break
//	  path      name 4095
//	Resume 0x0d version 2
//	  session   u64 nonzero          as in the Welcome with which it began
//	Guard 0x0e version 4
//
// # Answers and events
//
// What the server sends.
//
//	Welcome 0x81
//	  version   u8 nonzero           that both speak from here on
//	  server    string 1024          for people
//	  session   u64                  number of the session, as in the server's log. From version 2 on not 0, below 2^53,
//	                                 and never the same twice
//	  max_frame u32                  limits, as they stand in this comment unless the server has lower ones
//	  max_paths u32
//	  max_path  u32
//	  max_reason u32
//	  max_tag   u32
//	Granted 0x82
//	  grants    list 64 Grant        at least 1; one for each path of the Lock, in its order
//	Queued 0x83
//	  position  u32                  1: next. Of several paths, the worst
//	  blockers  list 8 Blocker       nearest first
//	Released 0x84
//	  ids       list 8000 u64        Unlock by path: one for each path, 0: it was not locked. Else those released
//	Done 0x85
//	Error 0x86
//	  code      enum 16              see Codes
//	  path      string 4095          the path that it is about, or empty
//	  text      string 1024          one sentence for people
//	  blockers  list 8 Blocker       with busy, timeout and deadlock: who is in the way
//	Rows 0x87
//	  more      bool                 another Rows follows
//	  rows      list 1024 Row
//	Changed 0x88
//	StatusReply 0x89
//	  server    string 1024
//	  broker_pid i32
//	  keeper_pid i32                 0: none
//	  started   time
//	  policy_file string 4095        empty: none
//	  policy_sha256 string 1024      hex
//	  policy_error string 1024       why the newest policy file is not in force; empty: it is
//	  policy_loaded time
//	  rules     u32                  counts, of everybody's, from here
//	  holds     u32
//	  waiters   u32
//	  connections u32
//	  lost      u32
//	  audit_segment string 4095
//	  audit_seq u64
//	  audit_error string 1024        why no grants are made; empty: they are
//	  limits    list 64 Limit
//	RulesReply 0x8a
//	  rules     list 1024 Allowance
//	Explained 0x8b
//	  allowed   bool
//	  by        string 1024          what decided, or why nothing allows it
//	  others    list 1024 string 1024  what else was considered, and why it lost
//	Reloaded 0x8c
//	  lines     list 1024 string 1024  what has changed, for people
//	Lost 0x8d
//	  id        u64 nonzero          of the hold
//	  cause     enum 3               1 broken, 2 expired, 3 stopped: the server is going away
//	  by        string 1024          who broke it, or empty
//	  reason    string 256           why, or empty
//	  path      string 4095
//	  grace     duration 30s         the next owner waits so long, or until the hold is unlocked
//	Resumed 0x8e version 2
//	  ids       list 8000 u64        of the attached holds that the session still has; not 0, ascending
//	GuardReply 0x8f version 4
//	  state     enum 3               1 off: the policy denies nobody, 2 on, 3 down: it does, and there is no guard, or
//	                                 none that can. Holds say for themselves whether they rest on it
//	  programs  list 64 name 4095    whose opens the guard refuses below held bundles; none with off, else at least 1
//	Altered 0x90 version 4
//	  alterations list 60 Alteration
//	Quiets 0x91 version 4
//	  quiets    list 1024 duration   of each rule of the RulesReply that follows, in its order: for so long nothing below a
//	                                 sparsebundle must have been written; 0: the rule does not ask for that
//
// # Structures
//
//	Grant
//	  id        u64 nonzero          of the hold, and its fencing token
//	  already   bool                 the owner held it before; same id
//	  rests     set 4 nonzero        1 ofd, 2 flock, 4 idle, 8 guard
//	  expires   time                 none: it does not
//	Blocker
//	  kind      enum 3               1 holder, 2 waiter ahead in the queue, 3 outside the broker: holds it, or has it open
//	  hidden    bool                 the peer may not know who: all that follows is zero or empty
//	  path      string 4095
//	  uid       u32
//	  user      string 1024          empty: the uid has no name
//	  pid       i32                  0 or less: not known
//	  command   string 1024
//	  since     time
//	  reason    string 256           outside the broker, in words for people: empty, or "has it open" where that is all, and from
//	                                 where the client comes for whom a file server has it ("has it open for 192.0.2.7"). With
//	                                 pid 0 and not empty: nobody in particular, but the bundle was written too lately
//	Row
//	  kind      enum 5               1 holder, 2 waiter, 3 lost: held before a restart, not to be had again,
//	                                 4 outside: a program that a waiter waits for, known by uid, pid, command, and
//	                                 reason as in Blocker,
//	                                 5 orphan: held, and its client has not come back yet to a server that was
//	                                 restarted, or the server's log does not know the hold. Where Welcome says
//	                                 version 1, it is shown as a holder
//	  id        u64                  0 for a waiter and outside
//	  dev       u64
//	  ino       u64
//	  path      string 4095
//	  mode      enum 2               exclusive or shared, as in Lock; exclusive where it is not known
//	  rests     set 4                as in Grant; may be empty
//	  life      enum 2               as in Lock; attached where it is not known
//	  uid       u32
//	  user      string 1024
//	  pid       i32
//	  command   string 1024
//	  tag       string 64
//	  reason    string 256
//	  since     time
//	  expires   time
//	  position  u32                  only of a waiter: 1 is next
//	  mine      bool                 it is the asking uid's
//	  stale     bool                 the path no longer leads to the locked file
//	  outlawed  bool                 the policy in force would not grant it now
//	  ending    bool                 broken or expired, and in its grace
//	Limit
//	  name      string 1024          as in the policy file
//	  per_uid   u64                  0 here and in all: no such limit
//	  all       u64
//	  used      u64                  by the asking uid
//	  used_all  u64
//	Allowance
//	  paths     list 1024 name 4095  each, and all below it
//	  can       list 64 name 1024    lock, lock-shared, list, break
//	  max_hold  duration             0 here and in the next two: no limit
//	  max_wait  duration
//	  holds     u32
//	  engines   list 64 name 1024    ofd, flock
//	Alteration
//	  id        u64 nonzero          of the hold
//	  count     u32                  how many of its files were deleted, renamed or replaced while it was held, all told
//	  last      string 1024          the last of them, within the bundle; empty: the held file itself, or the bundle
//	  at        time                 when the server noticed it; none: never
//	  missed    bool                 there may be more
//	  unwatched bool                 what happens from now on is not noticed
//	  lapsed    bool                 the guard, on which the hold rests or rested, did not guard it all the time since the grant
//
// # Conversation
//
// The client speaks first, with Hello. The server answers Welcome with the highest version that both speak, or Error
// version, and closes. Hello, Welcome and that Error have version byte 1 and these layouts in every version to come. A
// later version adds messages, which have its version byte, and values; what there was stays as it was. Only messages
// of the version that Welcome says, or of an earlier one, follow. A client that sends none but those of its lowest version
// need not wait for Welcome: its requests may follow Hello at once. A server that cannot take a connection at all
// sends Error with request id 0 before it closes it.
//
// The client numbers its requests as it likes, but not 0, and uses no number again before its last answer has come. An
// answer has the number of its request. Many requests may be in flight; answers come in any order. Request id 0 is for
// what answers no request: Lost, Altered, and an Error that is about the connection, after which the server closes it.
//
//	Hello     Welcome or Error
//	Lock      Queued any number of times, then Granted or Error, once
//	Unlock    Released or Error
//	Cancel    Done, always
//	Where     Queued or Error; not-found if the target does not wait
//	List      Altered any number of times (version 4), then Rows until one has more = 0, or Error
//	Watch     Changed any number of times, then Error; one Watch on a connection
//	Status    StatusReply or Error
//	Break     Released or Error
//	Reload    Reloaded or Error
//	Rules     Quiets at most once (version 4), if a rule asks for quiet; then RulesReply, or Error
//	Explain   Explained or Error
//	Resume    Resumed or Error
//	Guard     GuardReply or Error
//
// A Lock that has to wait is first answered by Queued, with its place and with who is in the way; further Queued may follow
// when that changes, and Where asks for a fresh one, which comes with the request id of the Where. Cancel takes the
// Lock out of the queue: it then answers Error canceled, unless Granted was on its way already, which the client
// must be ready for and may undo with Unlock. Cancel of something that waits no longer is no error. A client that closes
// the connection leaves every queue at once. A cancelled Watch answers Error canceled.
//
// After Changed, ask with List; several changes may be told as one.
//
// # Holds
//
// An attached hold belongs to its connection alone and ends with it: two connections of one user exclude each other.
// A detached hold belongs to its uid and tag; it can be unlocked, and asked for again, from any connection of that
// uid. A Lock by the owner that has it already answers Granted with already = 1 and the same id; one in the other mode
// answers Error conversion: unlock first. Unlock by path means this connection's hold of that path and the uid's detached
// one with that tag; what is not locked is no error but a 0 in the answer.
//
// What a hold rests on is said in the answer: the locks of the kernel that were taken, and idle where, with these in hand, nobody
// else had the file open for data. Exclusive locks of a sparsebundle wait for that by themselves, since some file servers show no
// lock while they have one open; where it cannot be found out, for want of leases in the file system or of rights, they are granted
// without, and do not say idle. A Lock with mode 3 asks for it of any regular file. It is answered Error unsupported where it
// cannot be found out, of directories for instance, and Error conversion to an owner who holds the file without it. Whoever opens
// the file later is kept out by the locks alone.
//
// Ids only grow, over all files and restarts of the server. Hand the id to whatever the lock protects, and let that refuse
// a smaller one than it has seen: it is a fencing token.
//
// Lost says that an attached hold has ended, or will when its grace is over. Stop the work and unlock by id; the next
// owner is let in then, or after the grace. Lost can come before the Granted that it is about. Owners of detached
// holds are not told; they see it in List, and in a 0 from Unlock.
//
// No lock keeps files from being deleted or renamed. From version 4 on Altered, as an event, says that this has happened to an attached
// hold's: to the file itself, or in a bundle's directory, or in bands or mapped in it. It comes with the first alteration, and then at
// most once a second; count is the sum since the grant, so who misses one learns it from the next. Who did it the server does not know:
// it may have been the owner. It also comes, once, when the hold was not guarded all the time since its grant: the guard has died, or the
// server, or the policy has only now asked for one. Those whom it refuses may have opened files then, and may have them open still.
// Altered before the Rows of a List tells of the holds in it of which there is anything to tell.
//
// # A connection that breaks
//
// This section is about versions from 2 on. Where Welcome says 1, the session ends with its connection, however that ends.
//
// A server that is killed, upgraded or restarted takes its connections with it, but not the sessions: their attached holds,
// and their places in the queues, are kept for 30 seconds, and nobody else gets in meanwhile. A client that
// finds its connection ended, by an end of the stream or by a reset, perhaps in the middle of a frame, should therefore
//
//   - connect again, and again for as long as there is nobody listening, or the new connection ends before Welcome or is
//     refused with Error limit or unavailable (of the many that come back at once), with pauses from 1 ms to 100 ms, for 30
//     seconds in all. The new connection deserves no more trust than the first one did;
//   - say Hello, and when Welcome has come, send Resume with the session number of the Welcome with which the session began
//     (the number in the new Welcome is that of a session that nobody needs). It may leave that out if the session has
//     neither attached holds nor an unanswered Lock: then it goes on as the session of the new Welcome;
//   - after Resumed, send every request that it has no last answer to again, with the same request id and the same fields, in
//     the same order. This connection is now the session's. What it believes to hold and is not among the ids is lost.
//
// Resume has to come before any other request of the connection; else it is answered Error invalid. It is answered Error
// lost if there is no such session any more (its time was over, or nothing is known of it), and just the same if it is another
// process's: the kernel tells the server which process connected, and a number that somebody has heard of opens nothing.
// The connection then goes on as that of the new session: attached holds of the old one are lost, and requests may be
// sent again.
//
// A request can have been worked on although its answer never came. Of those that are sent again,
//
//   - a Lock is known by its request id, before anything that comes behind it is looked at: it keeps its place in the queue
//     and its deadline; if it was granted, Granted says what it said before (already = 1 only for what the owner held
//     before this Lock), with the same ids. What is not known is a new request; so the timeout of one that is sent
//     again may be what remains of it. Of several paths, what had been granted when the server was killed is let go first
//     if it is not all of them; so a client had better not number a Lock as one whose paths it still holds. The answer can come twice, when one was under way as the Lock came again: the
//     second is to be ignored;
//   - an Unlock by id that finds nothing has found what it did the first time; by path or all, it names the rest only;
//   - Cancel and Where, of a Lock that was sent again before them, mean what they meant;
//   - List begins anew, and rows that came are void. A Watch is not kept; ask with List too, for what has changed meanwhile;
//   - a Break by path could break the next owner's hold: do not send it again.
//
// A hold that was broken or has expired is among the ids while its grace lasts, and its Lost comes again behind Resumed. So does an
// Altered of those of which there is something to tell. No deletion is noticed between the end of one server and the start of the next.
//
// There is nothing to resume after an Error with request id 0, an Error shutdown, or Lost with cause stopped: those are
// said on purpose. A client that closes its connection, or whose process dies, has ended its session.
//
// # Codes
//
// Of Error, with their stable words, fitting exit codes for a command, and what to tell people. A connection that
// cannot be made or that ends before the answer is exit code 122, wrong usage 123.
//
//	 1 busy         120  name the blockers; hint: wait, or wait with a timeout
//	 2 denied       121  hint: ask what is allowed (Rules). Also the answer for what is not there and not allowed
//	 3 timeout      124  name the blockers
//	 4 deadlock     125  the blockers are the cycle; hint: release yours first
//	 5 quota        125  hint: Status shows the limits
//	 6 invalid      123  malformed path or request; the text says what
//	 7 not-found    125  no such file, hold or waiting request
//	 8 unsupported  125  this kind of file, or an unknown request; the text says what
//	 9 conversion   125  hint: unlock first
//	10 canceled     125
//	11 unavailable  125  no grants at the moment; hint: Status says why
//	12 internal     125  a bug of the server's; hint: its log
//	13 version      125  hint: client and server are of different releases
//	14 shutdown     122  the server is going away for good; hint: try again
//	15 limit        125  too many connections, or a frame too large or too slow
//	16 lost         125  the hold, or the session that Resume named
//
// A hidden blocker is "another user" (holder, waiter) or "a program outside locker". Paths, commands, reasons and user
// names are other people's bytes: escape them before they reach a terminal.
//
// # Limits
//
// Those of values are in the tables. The server also limits, by default: 2 s from connect to the whole Hello; 2 s
// from a frame's first byte to its last; 64 KiB of answers that the client has not read. It works on the requests of a
// connection one after the other; those that wait, or that may hang on a slow file system, let later ones pass, and while
// a user has too many of the latter his connections are not read. It closes the connection after a
// frame that breaks the rules above, or when one of the first three limits is exceeded, and says why in a last Error if
// it can: with the frame's request id if there was one, else 0. Queues, attached holds and the Watch end with a
// connection that is closed on purpose, from either side; detached holds stay.
package wire
