// Package audit is the log of lockerd, and by that its memory: one record per event, in a chain of hashes, from
// which the lock table is read again at every start. There is no second store that could disagree.
//
// It owns the directory of the log: its files, their order, rotation, what happens when the disk is full or fails
// or somebody deletes the log, replay, reading and verification. It decides nothing about locks, knows no client
// and opens no other path. It does not remove old segments and does not protect the log from root: the chain shows
// a change, it does not prevent one.
//
// lockerd calls Open, Append, Commit and Close; "locker audit" calls Read and Verify, which need no lockerd.
//
// # What is promised
//
//   - Append is memory only; the record is part of State at once. Commit(seq, false) returns when the line is in
//     the file: a SIGKILL does not lose it. Commit(seq, true) returns when it is on disk: a power cut does not
//     lose it. What nobody waits for is on disk within 50 ms, as long as the disk is as fast as that.
//   - No Commit returns nil for a record that is not there. An error says that it is not answered for: the caller
//     undoes a grant by appending a release, which never fails for want of space.
//   - State is the sum of all records appended, and replaying the files gives the same.
//   - Numbers (seq) only grow, also when the tail of the log is lost: they are fencing tokens.
//   - When no space is left, grants are refused (ErrFull) while there is still room for the end of every hold.
//     When nothing can be written at all, grants are refused (ErrFailed), and up to 1 MiB of other records is kept
//     in memory, then counted. Both end by themselves when the disk is well again; it is tried twice a second.
//
// # Files
//
// The directory has mode 0750, its files 0640 and the group of Config.GID (adm), except lock, 0600:
//
//	seg-00000000000000000001.jsonl          a segment; the number is the seq of its first record, names sort in order
//	seg-00000000000000000001.jsonl.torn-1   what was at the end of that segment and is no record, moved aside at a start
//	spare-3                                 the next segment, empty, its space reserved (fallocate(2)); left by a stop
//	lock                                    holds flock(2) of the running lockerd, its pid, and the newest segment's name
//
// lockerd alone rotates them. Old segments, all but the newest, are never read again by lockerd and may be moved away;
// Verify then says that records are missing, unless it is given all segments in one directory.
//
// # Lines
//
// A segment is lines that end in a newline. Each line is a JSON object in printable ASCII without spaces between
// the fields, at most 128 KiB. The fields come in this order; one that is zero, empty or unknown is left out.
//
//	seq         number of the record; one more than the one before, but see "Numbers"
//	time        wall clock, RFC 3339, UTC, nine decimals: "2026-01-02T03:04:05.123456789Z"
//	boot        CLOCK_BOOTTIME in nanoseconds: orders and measures where wall time steps
//	event       see "Events"
//	id          of the hold: the seq of its grant, and its fencing token
//	uid, gid    of the peer, numbers; both or none
//	user        name of uid when the policy was loaded
//	loginuid    of the peer (proc(5)), a number
//	pid, start  of the peer; start is its start time in clock ticks (proc_pid_stat(5) field 22)
//	command     comm of the peer
//	path        as the client named it
//	target      the file really opened, if another; for rotate, gap, recovered: file names in the log's directory
//	dev, ino    of the locked file, numbers
//	mode        "exclusive" or "shared"
//	rests       what the hold rests on: a list of "ofd", "flock", …
//	life        "attached" or "detached"
//	session     of an attached owner, a number; of a detached one, the session that asked, if it can come back
//	tag         of a detached owner
//	reason      the client's own words
//	rule        the rule or deny that decided
//	grace_ns    how long the holder may clean up, nanoseconds
//	waited_ns   how long the claim waited, nanoseconds
//	held_ns     how long the hold was held, nanoseconds
//	expires     when the lease ends, as time
//	code        stable word: why refused, or what caused it
//	text        one sentence
//	count       of records left out; of held records that follow; of bytes moved aside; of altered files
//	sha256      of a policy file, hex
//	by          who broke the hold
//	first, last numbers that are not in the log; of a checkpoint, last: the last number reserved
//	gap_ns      of a resume: how long the hold was not held, and anybody could have had the file, nanoseconds
//	request     of the Lock that a grant answered: its number within the session
//	boot_id     of a checkpoint: the boot that the run is in (proc_sys_kernel(5), random/boot_id). "boot" counts from it
//	synced      the records up to this number were on disk when this one was made
//	altered     of a held record: when the hold's files were altered last, as time. It has the count, text and missed of that record
//	missed      true: more files may have been altered than count says
//	crc         CRC-32C (Castagnoli) of the line up to the comma before "crc", eight hex digits
//	prev        SHA-256 of the line before, without its newline, 64 hex digits; 64 zeros in the very first record
//
// Texts may hold any bytes. The value of a JSON string is the text as strconv.QuoteToASCII writes it, without the
// quotes around it. A byte that is not part of valid UTF-8, or a control byte, is \xNN (JSON writes "\\xff"), a newline
// \n, a quote \", another rune beyond ASCII \uNNNN or \UNNNNNNNN, as U+202E is \u202e. That is lossless, and no line end,
// terminal escape or bidi control reaches a reader. A path or target of more than 4,096 bytes, or another text of more
// than 1,024, is cut and ends in "...sha256:" and the hash of the whole.
//
// There is one spelling of each record. ParseLine refuses any other.
//
// # Events
//
//	start, stop               lockerd runs; stop is the last record of a clean stop
//	policy, policy-refused    a policy was loaded (sha256); a file was refused and the old policy stays
//	connect-refused           a peer that may not connect
//	grant                     a claim became a hold; id = seq
//	deny, wait                a claim was refused (code); it entered the queue
//	timeout, cancel           it left the queue: its time was up; it was taken back, or its client went away
//	release, death            the hold id ended: its owner said so; its client died
//	expire, break             its lease ended; somebody broke it. With grace_ns it goes on, as ending, until one of the four
//	resume                    the hold id of an earlier run is held again; with a path, what is described anew. With gap_ns
//	                          it was not held meanwhile
//	lost, cleared             it could not be had again; its owner has taken note, or was told, or has ended
//	suppressed                count records were left out
//	altered                   files of the hold id were deleted, renamed or replaced while it was held: count since its grant, text
//	                          the last of them, within the bundle; none: the locked file itself, or the bundle
//	keeper                    the keeper went away, came back, takes no more (code); count: of its entries
//	guard                     the guard came (code on; count: of bundles that are held), went (gone; off: the policy names nobody any
//	                          more), let everybody in for a moment (failed-open), could not be told of the hold id's bundle
//	                          (unguarded), or refused the program in text, last as pid, count opens below it (refused)
//	checkpoint                count held records follow, which are all holds; numbers up to last are reserved
//	held                      one of them: the fields of its grant, time included, but seq. boot is the reading at time of the
//	                          checkpoint's own clock, negative if that has begun later. code "ending": broken or expired, in
//	                          its grace; code "lost": could not be had again
//	rotate                    the head of a segment is complete. target: the segment before. code: first, opened (lockerd
//	                          was started), size, write-error, sync-error, deleted, truncated; text: the error
//	gap                       the records first to last are not on file: code deleted or truncated: they were in target,
//	                          until somebody removed or cut it; write-error: they could not be written
//	recovered                 the last run did not stop; numbers first to last are not used, or were lost with the tail.
//	                          code unclean; torn: count bytes that were no record, or came after such, are now in target;
//	                          accepted: the log was damaged before its tail, and Config.AcceptBroken was set; deleted: the
//	                          newest segment is not there; floor: the last run did stop, but numbers up to last are known
//	                          outside of this log (Config.Floor)
//
// # Segments
//
// A segment opens with its head: checkpoint, held records, gap or recovered if there is something to explain, rotate.
// Replaying the newest segment from its last checkpoint gives all holds; a checkpoint is also the sum of all that came
// before, which Verify checks.
//
// A segment is written whole up to the end of its head, synced, and only then given its name: one that has no whole
// checkpoint is damaged. If a write or an fdatasync fails, or the file turns out to be deleted or cut, the segment is
// given up: every line that is not known to be on disk is written again to a new one, before its head. So a segment
// may begin with lines that the one before also ends in; the later ones count.
//
// What follows the head is brought to disk in any order until it is synced. So damage that intact lines follow is taken for
// what a power cut has left if it is behind the head, lockerd was in another boot, and no later line knows the damaged ones
// to be synced. Any other damage with intact lines after it is refused at a start.
//
// # Numbers
//
// A segment's checkpoint reserves 2^20 numbers (more for segments above 64 MiB) and is on disk before the first of them
// is used. After a clean stop the next run goes on with the next number; after any other end it begins behind the
// reserved block, and its recovered record names the numbers between. The same goes for numbers of which somebody else
// knows (Config.Floor): a log that was deleted has forgotten what it gave. So numbers jump only at the head of a segment,
// and a gap or recovered record there explains it.
//
// Logs of a lockerd from before there was a keeper lack gap_ns, request, boot_id, synced and keeper; older ones than ours may lack altered
// and missed. They are read as they are; such a lockerd refuses ours.
//
// # The chain, by hand
//
// Each prev is the hash of the line before, across segments too:
//
//	cat seg-*.jsonl | while IFS= read -r line; do
//	    [ -z "$h" ] || [ "$(printf %s "$line" | jq -r .prev)" = "$h" ] || echo "broken at $(printf %s "$line" | jq .seq)"
//	    h=$(printf %s "$line" | sha256sum | cut -d' ' -f1)
//	done
//
// (It stops being true where a gap record says that a segment was deleted, and where a segment was given up.) The crc
// protects the last line, which no prev covers yet, against accidents. Against somebody who can write the files only a
// hash kept elsewhere helps: Report.Head is the hash of the last line, and all before hangs on it.
package audit
