// Package guard refuses opens of files below held bundles to the file servers that would change them.
//
// Locks do not keep every server out: a stock Samba Time Machine share ignores them all. The kernel asks a fanotify group with
// permission events before it opens a file, and here such a group says no to the programs of a list, and yes to everybody else.
// It takes CAP_SYS_ADMIN, which the broker must not have. So the guard is a process of its own, which opens no path that a
// client named: the broker sends it descriptors of directories.
//
// Server is the guard's side, Conn the broker's. Both are in this package, because they are one protocol; nobody else speaks it.
//
// # What is refused
//
// Opens of files that lie directly in a guarded directory, those that are made later included, by whatever path, mount or mount
// namespace; for reading, writing and executing, with EPERM; to processes whose executable, as /proc/PID/exe shows it, is in the list. A
// file that was replaced or deleted while its process runs, as package upgrades do, counts as what it was. What /proc shows
// has no symbolic links: who makes the list resolves them.
//
// Not refused: what was open before; unlink and rename, of which the kernel asks nobody; opens of directories, so that names can be
// listed; O_PATH, until it is opened again; what is opened by a hard link in a directory that is not guarded; directories below a guarded
// one that the broker did not send, also those that are made later; servers within the kernel (ksmbd, knfsd), which have no
// executable; a script, whose executable is its interpreter. A refused open(O_CREAT) leaves an empty file, which the kernel made before it asked.
//
// # Fail open
//
// Who is asked about may wait, so nobody must wait long. Whatever happens, the openers pass:
//
//	what happens                                      what lets them pass                                       after
//	an opener cannot be told, or any error            the answer                                                at once
//	the broker dies, or its connection ends           the group is closed                                       at once
//	the reader of the events hangs                    the session closes the group and opens another            0.7 to 1 s
//	it hangs within a system call on the group        the session kills this process                            1 s
//	the session hangs                                 the kernel's timer kills this process                     1 s
//	this process is stopped, frozen or gets no time   the kernel's timer kills this process                     1 s
//	this process dies                                 the kernel closes the group                               at once
//
// A closed group has no marks, and the kernel lets everybody pass who was waiting for it.
//
// The timer (timer_create(2), SIGKILL) is armed as long as there is a group, and put off by the session at each of its looks, every
// 100 ms. A second process as watchdog was considered: it would have to be alive, awake and running itself, and what stops or starves one
// process of a unit does so to the other. The timer needs nobody; SIGKILL ends a stopped process, one that is traced, and one
// in a frozen cgroup (version 2; tried on Linux 6.18). It does not run while the machine sleeps.
//
// The process must be one that nobody else needs, and somebody has to start it again (Restart=always). The broker notices by Gone. Who
// connects again guards anew: between the two nothing was.
//
// What remains:
//
//   - A frozen cgroup of version 1 keeps even SIGKILL waiting; so does a thread that sleeps uninterruptibly within a system call
//     on the group, which is where the kernel opens the file of an event for us. There it asks whoever serves the file, so
//     directories on FUSE and network file systems are not guarded (ErrUnfit). A local disk that hangs, hangs its openers anyway,
//     and others with them that open below any guarded directory.
//   - A killed process needs a little time on a processor to die. Where real-time threads leave none, nobody passes.
//   - If the kernel cannot open the file of an event for us, it refuses the opener, whoever he is (EPERM), and does not ask.
//     That is so for a file on which somebody has a write lease, which a second try finds given back, and is why the guard's own opens
//     are O_NONBLOCK: else the owner of a bundle could stop everybody with a lease or a FIFO. Where it is the guard that lacks
//     descriptors or memory, one opener is refused so, and then the group is closed. Landlock and other security modules that forbid the
//     guard to open the files have the same effect: do not confine its file access.
//   - The fanotify group opens each file for a moment before it is decided. A probe of whether anybody has it open (F_SETLEASE) may
//     find that, and should try again.
//
// # What the guard trusts
//
// Its broker, with less than it sounds. A broker that means harm can have any programs refused in any directories that it can open for reading,
// as long as it lives. It gains no file, no descriptor, and no knowledge but the names of who was refused.
//
// # Limits
//
//	directories    16 in one Guard; RLIMIT_NOFILE - 64 together; one that several ids name counts once, and is held until the last is lifted
//	programs       64, of at most 4,095 bytes, in one message of 16 KiB
//	brokers        one at a time; others wait in the backlog
//	peers          root, the guard's own uid and one that is configured, SO_PEERCRED
//	refusals       told once a second for each id and program, the first at once
//	failures       the fourth within a minute ends the connection
//	capabilities   CAP_SYS_ADMIN, CAP_SYS_PTRACE (whose executable), CAP_DAC_READ_SEARCH (others' directories)
//	system calls   fanotify_init and fanotify_mark are not in systemd's @system-service; timer_create is in its @timer
//	user           root, in the initial user namespace and with its own pid namespace's /proc
//
// An open below a guarded directory takes about 35 µs longer (BenchmarkOpen). All other opens take what they took: nothing is marked that
// is not held, and while nothing is held there is no group and no timer.
//
// # Connection
//
// SOCK_SEQPACKET: messages keep their bounds and order, and carry descriptors. One datagram is one message. All integers are
// big-endian:
//
//	u8   version   1
//	u8   kind      see below
//	u8   set       see below; else 0
//	u8   zero      0
//	     fields    of the kind
//	u32  sum       CRC-32C (Castagnoli) of all bytes before it
//
// From the broker:
//
//	Deny        0x01   u32 number, u16 count (1 to 64) of paths, each u16 length (2 to 4095), bytes: '/' first, no NUL
//	Guard       0x02   u32 number, u64 id, not 0
//	                   set: how many descriptors come with it, 1 to 16
//	Lift        0x03   u32 number, u64 id, not 0
//	Ping        0x04   u32 number
//
// From the guard:
//
//	Answer      0x81   u32 number of the request, u8 code, u16 length (at most 255), reason in words
//	Refused     0x82   u64 id, u32 pid (below 2^31), u32 count (not 0), u16 length (at most 4095), path of the executable
//	FailedOpen  0x83   u16 length (at most 255), reason in words
//	                   set: 1 all is guarded again
//
// A number is not 0; it is the broker's choice. The codes:
//
//	1   done
//	2   unavailable: the kernel or the capabilities do not allow it
//	3   full
//	4   the id guards something already
//	5   unfit: not a directory, opened with O_PATH, or on a file system that may hang
//	6   out of order: Deny comes first, and once
//
// Every request is answered, in their order, after it is done: after the answer to a Guard opens are refused, after that to a
// Lift they are not. Guard is all or none. Lift of an id that guards nothing is done.
//
// Refused says that so many opens by the executable were refused below a directory of the id since the last one said so, the last by
// pid. Id 0: which one cannot be told any more; with an empty path, for nobody knows whom. FailedOpen says that everybody was let in for a
// moment that ended now; without the bit, nothing is guarded any more, and the connection ends.
//
// There is one encoding for each message. Another version, an unknown kind or code, a set that has no meaning, a wrong checksum, a
// length beyond its limit or the message's end, bytes after the last field, and another number of descriptors than set says are errors, and
// end the connection; so does a broker that does not read what it is answered. An empty datagram is the end of the connection.
// testdata/vectors.txt has examples of all.
package guard
