// Package flock opens files at hostile paths and takes kernel locks on them. It owns the way from the bytes of a path to a
// locked descriptor: the whitelist as a ceiling, which mounts are entered, what kind of file is opened how, which engines
// lock it, whether the lock means anything, whether the path still leads there, and who outside is in the way. It holds the
// only openat2(2) call in the tree.
//
// It decides nothing about people: who may lock what is package authz's. It keeps no table of holds, no queue and no clock
// but the one of Wait. It never creates, writes, truncates or reads a file, and changes no mode, owner or time of one,
// but the access time of a bundle's directories where it reads those (BundleDirs, Written).
//
// # Opening
//
// A path is absolute, clean and at most 4,095 bytes. From its longest root (an allow entry, or a mount point below one
// that mountinfo showed when the Opener was made) it is resolved beneath that root, without symbolic links, magic links,
// ".." or crossing a mount. It is opened O_PATH first, so that nothing happens to a FIFO, a device or a lease; judged by
// fstat(2); reopened through /proc/self/fd, with O_NONBLOCK; and judged again. Eight attempts at most.
//
// Regular files with one link (Want.Hardlinks allows more) and directories are opened, nothing else.
//
// Mounts: below an allow entry, local file systems that were mounted when the Opener was made. Network file systems and
// root's FUSE mounts when an allow entry is the mount point or lies below it; file systems that root mounts on or above an
// allow entry later are taken as they come. Never a FUSE mount of another user, who could let root hang there beyond
// SIGKILL, even if he mounted it over an allow entry; never proc, sysfs and the like. On a network file system that is named
// in allow, Open, TryLock and Same may hang for as long as its server does.
//
// # Engines
//
// Both on one open file description: OFD (fcntl(2) F_OFD_SETLK, offset 0 to the end) and BSD (flock(2)), claimed in that
// order, all or none. File.Engines says which it will be:
//
//	regular file that can be opened for writing          ofd flock   O_RDWR, in both modes
//	  … or cannot: EACCES EROFS ETXTBSY EPERM            flock       O_RDONLY
//	  … with an execute bit                              flock       O_RDONLY: execve(2) must not fail with ETXTBSY
//	token of a sparsebundle, whatever its execute bits   as a regular file; exclusive only
//	directory                                            flock       O_RDONLY
//	regular file on a network file system, or FUSE       ofd         O_RDWR; shared: O_RDONLY if it must be
//	directory there                                      none        ErrEngines
//
// Want.Engines narrows this; if nothing is left, ErrEngines.
//
// With the engines in hand, TryLock also asks whether anybody else has the file open for data, if Want.Idle says so, or the file is a
// bundle's token: by a write lease, given back at once. ErrInUse, and no engine, if somebody has. Other files of this package's that are
// open count as well: Park takes one that only waits out of the way. Where it cannot be found out Want.Idle is refused (*NoIdle), and a
// token is locked without; File.Idle says which it was. Want.InUse has nobody asked, whatever the file is.
//
// A sparsebundle is a directory named *.sparsebundle, or one that holds Info.plist, bands/ and token. What is opened is its
// token, a regular file with one link; so it is when a path names *.sparsebundle/token.
//
// BundleDirs opens the directories that such a bundle is, for the guard, which is to be told which they are. Written says when it was last
// written, by the times of its files: it opens none of them.
//
// A lock is tested when it is the first of its engine on a file system: a second description must be refused, or the claim
// fails with ErrMeaningless. What that cannot see is listed at provesItself.
//
// # Holding
//
// Descriptors are plain numbers: nothing is finalized, so no lock is lost to the garbage collector. A lock belongs to the
// description, not to the descriptor: every copy keeps it, and Unlock through any copy releases it for all. To end a hold:
// Unlock, then Close. Close alone leaves the lock to whoever has a copy.
//
// # Looking again
//
// After TryLock the path may lead to another file. Same asks, in one call, what the locked file is called now, and walks
// the path only if that is another name; LeadsTo always walks, and so also sees a mount that was put over the path.
//
// # Waiting
//
// Waiter calls back when the file is closed by somebody, reader or writer (inotify(7)) and, as the net, every 50 ms for 10 s and then ever
// less often up to 250 ms. A close shows within about 0.1 ms, an explicit LOCK_UN at the next poll. It is for the head of a
// queue only: each wait is a goroutine of the caller's and up to 20 tries a second.
//
// # Alterations
//
// Changes tells of held files that are deleted, renamed or replaced, which no lock prevents: of the file itself, or of what is in a
// bundle's directory, in bands and in mapped. Reading a directory would change its time, so others in it are not looked for.
//
// # Who is in the way
//
// Outside names the processes that hold a file, Users those too that have it open. They take 200 ms of a processor, 1 s where they are kept
// off it, and more only until they have seen 4,096 processes and descriptors; 100 ms more are for where the clients come from for whom
// file servers among them work.
//
// # Kernel
//
// Linux 5.8 or newer, with /proc mounted. Root is not needed: without it, what the user may open can be locked.
package flock
